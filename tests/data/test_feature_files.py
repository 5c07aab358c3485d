"""Features of others: whatever layout they come in, they are tokens with places in level-0 pixels, or one sentence."""

import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from tests.data.features_of_others import corners_of, some_features, write_clam, write_stamp, write_trident
from xt.data.feature_files import FeatureFile
from xt.data.feature_folder import FeatureFolder, open_features
from xt.errors import DataWarning, ImageError, TableError
from xt.labels.image_table import ImageTable


@pytest.mark.parametrize("batched", [False, True])
def test_trident_s_files_give_features_in_their_order_and_places(tmp_path: Path, batched: bool) -> None:
    values, corners = some_features(6), corners_of(2, 3, 512, x=1000, y=300)
    file = FeatureFile(write_trident(tmp_path / "a.h5", values, corners, shape=(9000, 8000), batched=batched))
    np.testing.assert_array_equal(file.read_features(0, 6)[:, 0], values)
    np.testing.assert_array_equal(file.read_features(2, 4)[:, 0], values[2:4])
    assert (file.feature_shape, file.encoder, file.shape) == ((1, 12), "uni_v1", (9000, 8000))
    # y and x of the centres, from x and y of the corners.
    np.testing.assert_array_equal(file.grid.token_positions(1), corners[:, ::-1] + 256)
    file.close()
    np.testing.assert_array_equal(file.read_features(5, 6)[:, 0], values[5:])


def test_clam_s_files_give_the_same_with_places_from_the_h5_beside(tmp_path: Path) -> None:
    values, corners = some_features(6), corners_of(2, 3, 256)
    tensor = write_clam(tmp_path, "a", values, corners)
    for file in (
        open_features(tensor),
        open_features(tmp_path / "h5_files" / "a.h5"),
        FeatureFolder(tmp_path).image("a.svs"),
    ):
        np.testing.assert_array_equal(file.read_features(0, 6)[:, 0], values)
        # Nothing says how large a patch is: as far as the next one.
        np.testing.assert_array_equal(file.grid.token_positions(1), corners[:, ::-1] + 128)
        assert file.shape == (512, 768)
    (tmp_path / "h5_files" / "a.h5").unlink()
    with pytest.raises(
        ImageError, match=r"a\.pt does not say where its patches lie: expected coordinates beside it"
    ):
        open_features(tensor)


def test_coordinates_of_clam_s_patches_say_their_size(tmp_path: Path) -> None:
    """At patch level 1, which is 4 times coarser, patches of 256 are 1,024 pixels of level 0."""
    path = write_clam(tmp_path, "a", some_features(2), np.array([[0, 0], [5000, 0]]))
    (tmp_path / "h5_files" / "a.h5").unlink()
    (tmp_path / "patches").mkdir()
    with h5py.File(tmp_path / "patches" / "a.h5", "w") as file:
        coords = file.create_dataset("coords", data=np.array([[0, 0], [5000, 0]]))
        coords.attrs.update(patch_size=256, patch_level=1, downsample=(4.0, 4.0))
    assert open_features(path).grid.region_size == 1024


def test_stamp_s_micrometres_become_pixels_as_its_encoder_saw_them(tmp_path: Path) -> None:
    values = some_features(4)
    file = FeatureFile(
        write_stamp(tmp_path / "a.h5", values, np.array([[0, 0], [256, 0], [0, 256], [512, 768]]))
    )
    np.testing.assert_array_equal(file.read_features(0, 4)[:, 0], values.astype(np.float16))
    np.testing.assert_allclose(file.grid.token_positions(1), [[112, 112], [112, 336], [336, 112], [784, 560]])
    assert (file.dtype, file.encoder) == (np.float16, "virchow2-1234")


def test_tensors_in_a_mapping_and_of_half_precision(tmp_path: Path) -> None:
    values = torch.from_numpy(some_features(3)).bfloat16()
    torch.save({"features": values, "coords": torch.tensor([[0, 0], [64, 0], [128, 0]])}, tmp_path / "a.pt")
    file = open_features(tmp_path / "a.pt")
    np.testing.assert_array_equal(file.read_features(1, 3)[:, 0], values[1:].float().numpy())
    assert file.grid.region_size == 64


class Executed:
    def __reduce__(self) -> object:
        return (Path.touch, (Path("executed"),))


def test_nothing_in_a_file_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(Executed(), "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(Executed()))
    torch.save(np.zeros((2, 3)), "c.pt")
    for name in ("a.pt", "b.pt", "c.pt"):
        with pytest.raises(
            ImageError, match=rf"{name} is not read: expected a tensor .*nothing that would have to be"
        ):
            open_features(tmp_path / name)
    assert not (tmp_path / "executed").exists()


def test_places_are_mirrored_and_turned_with_the_image(tmp_path: Path) -> None:
    file = FeatureFile(
        write_trident(tmp_path / "a.h5", some_features(2), np.array([[0, 0], [512, 0]]), shape=(1000, 2000))
    )
    assert file.flip("y").grid.token_positions(1).tolist() == [[744, 256], [744, 768]]
    assert file.flip("x").grid.token_positions(1).tolist() == [[256, 1744], [256, 1232]]
    turned = file.rotate(1)
    assert turned.shape == (2000, 1000)
    assert turned.grid.token_positions(1).tolist() == [[1744, 256], [1232, 256]]
    for turns in range(4):
        np.testing.assert_array_equal(file.rotate(turns).rotate(4 - turns).grid.origins, file.grid.origins)
    np.testing.assert_array_equal(file.rotate(2).grid.origins, file.flip("y").flip("x").grid.origins)
    np.testing.assert_array_equal(turned.read_features(0, 2), file.read_features(0, 2))


def broken(path: Path, what: str) -> Path:
    """A file that is not as it should be."""
    values, corners = some_features(4), corners_of(2, 2, 512)
    if what == "nan":
        values[2, 3] = np.nan
    elif what == "empty":
        values, corners = values[:0], corners[:0]
    elif what == "vector":
        values = values[0]
    elif what == "whole":
        values = (values * 100).astype(np.int32)
    elif what == "fewer":
        corners = corners[:3]
    elif what == "three":
        corners = np.concatenate([corners, corners[:, :1]], axis=1)
    with h5py.File(path, "w") as file:
        if what != "none":
            file["features"] = values
        file["coords"] = corners
        if what == "unplaced":
            del file["coords"]
        if what == "micrometres":
            file.attrs["unit"] = "um"
    if what == "cut":
        path.write_bytes(path.read_bytes()[:900])
    if what == "text":
        path.write_text("image,label\n")
    return path


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("nan", r"the features of patch 2 are not numbers"),
        ("empty", r"is empty: it has features of 0 patches; leave the image out"),
        (
            "vector",
            r"expected features \(patches, width\) .* got float32 of shape \(12,\): one vector for the whole image",
        ),
        ("whole", r"expected features \(patches, width\) of floating point, got int32"),
        ("fewer", r"has features of 4 patches and coordinates of 3: they are not of one image"),
        (
            "three",
            r"expected coordinates \(patches, 2\), x and y in level-0 pixels, got numbers of shape \(4, 3\)",
        ),
        ("none", r"holds no features: .* or feats, as STAMP does; it holds coords"),
        ("unplaced", r"does not say where its patches lie"),
        ("micrometres", r"coordinates are in micrometres, and nothing says how large a tile is"),
        ("cut", r"cannot be read as HDF5"),
        ("text", r"cannot be read as HDF5"),
    ],
)
def test_a_broken_file_is_one_sentence_with_its_name(tmp_path: Path, what: str, sentence: str) -> None:
    path = broken(tmp_path / "slide.h5", what)
    with pytest.raises(ImageError, match=rf"slide\.h5.*{sentence}"):
        FeatureFile(path).read_features(0, 4)


def table_of(*names: str) -> ImageTable:
    return ImageTable("t.csv", tuple(Path("/nowhere") / name for name in names), np.zeros(len(names)), ())


def test_files_are_found_by_the_images_names(tmp_path: Path) -> None:
    names = ("TCGA-3C-AALI-01Z-00-DX1.F6E9A5DF", "plain", "b.ome")
    for name in (*names[:2], "b"):
        write_trident(tmp_path / "deeper" / f"{name}.h5", some_features(3), corners_of(1, 3, 512))
    folder = FeatureFolder(tmp_path)
    for name in (f"{names[0]}.svs", names[0], "plain.ndpi", "plain", "/elsewhere/plain.tif", "b.ome.tif"):
        assert Path(name) in folder
    assert Path("TCGA-3C-AALI-01Z-00-DX1.svs") not in folder
    assert folder.image(Path("plain.ndpi")).name == "plain.ndpi"
    with pytest.raises(
        TableError, match=r"other\.svs has no features in .*: a file of its name ending in \.h5"
    ):
        folder.image("other.svs")


def test_images_without_features_are_left_out_and_said(tmp_path: Path) -> None:
    for name in "abcd":
        write_trident(tmp_path / f"{name}.h5", some_features(3), corners_of(1, 3, 512))
    folder = FeatureFolder(tmp_path)
    with pytest.warns(
        DataWarning,
        match=r"t\.csv: 4 of 8 images have no features in .*: v\.svs, w\.svs, x\.svs, \.\.\.; they are left out",
    ):
        found = folder.of_table(table_of(*(f"{name}.svs" for name in "avbwcxdy")))
    assert [path.stem for path in found.paths] == list("abcd")
    assert found.rows == (0, 2, 4, 6)
    with pytest.raises(
        TableError,
        match=r"3 of 4 images have no features.*files are found by the image's name.*x\.h5 of x\.svs",
    ):
        folder.of_table(table_of("a.svs", "x.svs", "y.svs", "z.svs"))


def test_features_of_several_encoders_are_refused(tmp_path: Path) -> None:
    places = corners_of(1, 3, 512)
    write_trident(tmp_path / "a.h5", some_features(3), places)
    write_trident(tmp_path / "b.h5", some_features(3, width=16), places)
    write_trident(tmp_path / "c.h5", some_features(3), places, encoder="conch_v1")
    folder = FeatureFolder(tmp_path)
    assert folder.kind(["a.svs"]) == (12, "uni_v1")
    with pytest.raises(
        ImageError, match=r"a\.h5 and .*b\.h5 are not of one encoder: numbers a patch 12 and 16"
    ):
        folder.kind(["a.svs", "b.svs"])
    with pytest.raises(ImageError, match=r"are not of one encoder: the encoder uni_v1 and conch_v1"):
        folder.kind(["a.svs", "c.svs"])
    write_trident(tmp_path / "features_conch" / "a.h5", some_features(3), places)
    with pytest.raises(
        TableError, match=r"has several files of features of a\.svs: .*name the folder of one encoder"
    ):
        FeatureFolder(tmp_path).image("a.svs")


def test_a_folder_without_any_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"has no files of features: expected \.h5 or \.pt files as TRIDENT"):
        FeatureFolder(tmp_path)
    with pytest.raises(TableError, match=r"nowhere is no folder"):
        FeatureFolder(tmp_path / "nowhere")
