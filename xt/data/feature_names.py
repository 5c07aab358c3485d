"""Which files are features of others, by their names; known without PyTorch."""

import os
from pathlib import Path

H5 = (".h5", ".hdf5")
SUFFIXES = (*H5, ".pt", ".pth")
DATASETS = ("features", "feats")
"""As which a file may hold them; where it has both, the first is meant."""


def is_feature_name(path: str | os.PathLike[str]) -> bool:
    """Whether a file is called as those of features are."""
    return Path(path).suffix.lower() in SUFFIXES


def feature_files_below(folder: str | os.PathLike[str]) -> list[str]:
    """The files of features in a folder and all its subfolders, sorted; of an HDF5 file and a tensor of one name, as
    CLAM writes both, the former."""
    found = [
        file for file in sorted(Path(folder).rglob("*")) if is_feature_name(file) and file.name[0] != "."
    ]
    complete = {file.stem for file in found if file.suffix.lower() in H5}
    return [str(file) for file in found if file.suffix.lower() in H5 or file.stem not in complete]


def holds_features(path: str | os.PathLike[str]) -> bool:
    """Whether a file is one of features; HDF5 may hold images, too."""
    if Path(path).suffix.lower() not in H5:
        return is_feature_name(path)
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return any(name in file for name in DATASETS)
    except OSError:
        return False
