"""Makes the small set of handwritten digits that the demo ships (`xt/demo/assets/digits.npz`).

    python scripts/make_demo_digits.py FOLDER

FOLDER holds the four published MNIST files (`train-images-idx3-ubyte.gz` and so on). Digits for training
come from the training set, digits for held-out images from the test set, which other people wrote; the same
number of each class, picked by a fixed seed.
"""

import argparse
import gzip
from pathlib import Path

import numpy as np

ASSETS = Path(__file__).resolve().parents[1] / "xt" / "demo" / "assets"
TRAIN_PER_CLASS = 800
HELDOUT_PER_CLASS = 200


def read_idx(path: Path) -> np.ndarray:
    """The array in an idx file: two zero bytes, type (8: uint8), number of dimensions, sizes, values."""
    data = gzip.decompress(path.read_bytes())
    if data[:3] != b"\x00\x00\x08":
        raise ValueError(f"expected an idx file of unsigned bytes, {path} begins with {data[:4]!r}")
    sizes = np.frombuffer(data, ">u4", count=data[3], offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(tuple(int(size) for size in sizes))


def pick(labels: np.ndarray, per_class: int, seed: int) -> np.ndarray:
    """Sorted indices of `per_class` digits of each class."""
    rng = np.random.default_rng(seed)
    return np.sort(
        np.concatenate([rng.choice(np.flatnonzero(labels == c), per_class, False) for c in range(10)])
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=ASSETS / "digits.npz")
    arguments = parser.parse_args()
    arrays = {}
    for pool, stem, per_class in (
        ("train", "train", TRAIN_PER_CLASS),
        ("heldout", "t10k", HELDOUT_PER_CLASS),
    ):
        images = read_idx(arguments.folder / f"{stem}-images-idx3-ubyte.gz")
        labels = read_idx(arguments.folder / f"{stem}-labels-idx1-ubyte.gz")
        chosen = pick(labels, per_class, seed=0)
        arrays[f"{pool}_images"], arrays[f"{pool}_labels"] = images[chosen], labels[chosen]
    np.savez_compressed(arguments.out, **arrays)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
