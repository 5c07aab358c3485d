"""A store holds what the region encoder finds, and refuses to stand for anything else."""

import os
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from tests.data.images import CountingImage
from tests.small_model import small_model
from tests.small_models import small_model as small_of
from xt.data import encoding
from xt.data.encoding import encode_image, encoded_batches, open_for_encoding, oriented
from xt.data.feature_store import FeatureStore, identity_of, pack_grid, unpack_grid, version_of
from xt.errors import (
    CheckpointError,
    ConfigError,
    ImageError,
    OutputError,
    PixelError,
    ShapeError,
    TableError,
)
from xt.images import open_image
from xt.model.xt import XT
from xt.regions.grid import RegionGrid
from xt.regions.pyramid_grid import PyramidGrid

EXACT = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module")
def model() -> XT:
    model = small_model().eval()
    model.streaming = replace(model.streaming, region_batch=3)
    return model


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """Two images of differing sizes, neither a multiple of the region size."""
    paths = []
    for seed, shape in enumerate(((150, 200, 3), (70, 90, 3))):
        pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
        paths.append(tmp_path / f"{seed}.tif")
        tifffile.imwrite(paths[-1], pixels, photometric="rgb")
    return paths


def encode(path: Path, model: XT, images: list[Path], **options: object) -> FeatureStore:
    with open_for_encoding(path, model, **options) as store:  # type: ignore[arg-type]
        for image in images:
            encode_image(store, model, image)
    return store


def test_the_store_equals_direct_encoding(model: XT, images: list[Path], tmp_path: Path) -> None:
    whole = encode(tmp_path / "s.zarr", model, images, dtype="float32")
    half = encode(tmp_path / "h.zarr", model, images)
    assert half.dtype == np.float16
    for path in images:
        with open_image(path) as image:
            grid = model.grid(image)
            direct = np.concatenate(list(encoded_batches(model, image, grid)))
        stored = whole.image(path)
        assert stored.shape == image.shape
        assert np.array_equal(stored.grid.origins, grid.origins)
        assert direct.shape == (len(grid), 4, 32)
        np.testing.assert_allclose(stored.read_features(0, len(grid)), direct, **EXACT)
        np.testing.assert_array_equal(stored.read_features(1, 3), stored.read_features(0, 4)[1:3])
        found = half.image(path).read_features(0, len(grid))
        np.testing.assert_array_equal(found, stored.read_features(0, len(grid)).astype(np.float16))


@pytest.mark.parametrize("region_batch", [1, 16])
@pytest.mark.parametrize("least_bytes", [1, 2**20])
def test_the_model_answers_from_the_store_as_from_pixels(
    model: XT,
    images: list[Path],
    tmp_path: Path,
    region_batch: int,
    least_bytes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("xt.regions.encoded._LEAST_BYTES", least_bytes)
    monkeypatch.setattr("xt.model.encoded._SMALL_GRAPHS_BYTES", 0 if region_batch == 1 else 2**26)
    store = encode(tmp_path / "s.zarr", model, images, dtype="float32")
    opened = [open_image(path) for path in images]
    stored = [store.image(path) for path in images]
    gradients = []
    for given in (opened, stored):
        model.zero_grad()
        logits, relevance = model(given, region_batch=region_batch, return_relevance=True)
        logits.square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
        if given is opened:
            expected, positions = logits, relevance.positions
    torch.testing.assert_close(logits, expected, **EXACT)
    torch.testing.assert_close(relevance.positions, positions)
    for name, gradient in gradients[1].items():
        if name.startswith("region_encoder.backbone"):
            assert gradient is None, name
        else:
            torch.testing.assert_close(gradient, gradients[0][name], rtol=1e-4, atol=1e-5)
    with pytest.raises(ShapeError, match="cannot be mixed"):
        model([opened[0], stored[1]])
    with pytest.raises(
        ShapeError, match=r"was encoded to 4 tokens of 32 features a region, the model takes 1 of 32"
    ):
        small_model(tokens_per_region=1)(stored)


def test_a_halo_is_read_and_belongs_to_the_encoder(images: list[Path], tmp_path: Path) -> None:
    model, plain = small_model(halo=32).eval(), small_model().eval()
    store = encode(tmp_path / "s.zarr", model, images, dtype="float32")
    with torch.no_grad():
        stored = model([store.image(path) for path in images])
        torch.testing.assert_close(stored, model([open_image(path) for path in images]), **EXACT)
    with pytest.raises(CheckpointError, match=r"its model\.halo is 32, here it is 0"):
        store.check_settings(plain)
    with pytest.raises(CheckpointError, match=r"its model\.halo is 0, here it is 32"):
        encode(tmp_path / "p.zarr", plain, images[:1]).check_settings(model)


def test_an_array_whose_description_is_cut_off_is_encoded_again(
    model: XT, images: list[Path], tmp_path: Path
) -> None:
    store = encode(tmp_path / "s.zarr", model, images[:1])
    description = store.place(images[0], 0) / "zarr.json"
    description.write_text(description.read_text()[:40])
    assert images[0] not in store
    with pytest.raises(TableError, match=r"is not in .*run `xt encode` again"):
        store.image(images[0])
    assert images[0] in encode(tmp_path / "s.zarr", model, images[:1])


def test_all_flips_and_turns_are_those_of_the_pixels(model: XT, images: list[Path], tmp_path: Path) -> None:
    store = encode(tmp_path / "s.zarr", model, images[:1], dtype="float32", views=8)
    stored, opened = store.image(images[0]), open_image(images[0])
    seen = set()
    for turns in range(4):
        for axes in ("", "y", "x", "yx", "xy"):
            ours, theirs = stored, opened
            for axis in axes:
                ours, theirs = ours.flip(axis), theirs.flip(axis)
            # Turning in steps, too: every path through the views must lead to the same one.
            ours, theirs = ours.rotate(1).rotate(turns - 1), theirs.rotate(turns)
            seen.add(ours.view)
            assert ours.shape == theirs.shape
            direct = np.concatenate(list(encoded_batches(model, theirs, model.grid(theirs))))
            np.testing.assert_allclose(ours.read_features(0, len(direct)), direct, **EXACT)
    assert seen == set(range(8))
    flips = encode(tmp_path / "f.zarr", model, images[:1], views=4).image(images[0])
    assert flips.flip("y").flip("x").view == flips.rotate(2).view
    with pytest.raises(ConfigError, match=r"encoded in 4 of 8 views.*encode it with --views 8"):
        flips.rotate(1)


def test_foreground_is_stored_with_the_grid(tmp_path: Path) -> None:
    model = small_model(foreground="nodata").eval()
    pixels = np.zeros((200, 200, 3), np.uint8)
    pixels[100:110, 20:150] = 90
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb")
    tifffile.imwrite(tmp_path / "empty.tif", pixels * 0, photometric="rgb")
    store = encode(tmp_path / "s.zarr", model, [tmp_path / "a.tif"], dtype="float32", nodata=0.0)
    stored, opened = store.image(tmp_path / "a.tif"), open_image(tmp_path / "a.tif", nodata=0)
    assert len(stored.grid) == 3
    with torch.no_grad():
        torch.testing.assert_close(model(stored), model(opened), **EXACT)
    with pytest.raises(ImageError, match="has no foreground"):
        encode_image(store, model, tmp_path / "empty.tif")
    assert tmp_path / "empty.tif" not in store


def test_grids_come_back() -> None:
    mask = np.random.default_rng(0).random((3, 5)) > 0.5
    for grid in (
        RegionGrid(height=150, width=290, region_size=64, order="hilbert"),
        RegionGrid(height=150, width=290, region_size=64, mask=mask),
    ):
        back = unpack_grid(pack_grid(grid))
        assert (back.height, back.width, back.order) == (150, 290, grid.order)
        assert np.array_equal(back.cells, grid.cells)
        pyramid = PyramidGrid.coarsest(grid, 3)
        pyramid = pyramid.opened(np.arange(1), keep=True)
        again = unpack_grid(pack_grid(pyramid))
        assert list(again) == list(pyramid)
        assert list(again.fine) == list(grid)


def test_an_image_is_there_completely_or_not_at_all(
    model: XT, images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in mid-image, as by a power cut; then once more to the end."""
    # One region a chunk, so that some are on disk.
    code = f"""
import os, signal
from pathlib import Path
from xt.data import encoding
from tests.small_model import small_model
from tests.small_models import small_model as small_of
from dataclasses import replace
encoding._CHUNK_BYTES = 1
model = small_model().eval()
model.streaming = replace(model.streaming, region_batch=3)
images = {[str(path) for path in images]}
def progress(done, total):
    if done > 6:
        os.kill(os.getpid(), signal.SIGKILL)
with encoding.open_for_encoding({str(tmp_path / "s.zarr")!r}, model) as store:
    encoding.encode_image(store, model, images[1])
    encoding.encode_image(store, model, images[0], progress)
"""
    root = Path(__file__).parents[2]
    killed = subprocess.run([sys.executable, "-c", code], cwd=root, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert killed.returncode == -9
    store = FeatureStore(tmp_path / "s.zarr")
    assert images[1] in store
    assert images[0] not in store
    left = list(store.path.glob(".*.xt-part-*"))
    assert len(left) == 1
    assert len(list(left[0].glob("c/*/0/0"))) >= 6, "there was nothing in it to be mistaken for an image"
    with pytest.raises(TableError, match=r"0\.tif is not in .*s\.zarr: run `xt encode` again"):
        store.image(images[0])
    # As one leaves it that was killed while it made the store.
    (tmp_path / ".s.xt-part-0123abcd.zarr" / "encoder").mkdir(parents=True)
    encode(tmp_path / "s.zarr", model, images[:1])
    assert images[0] in store
    assert not list(store.path.glob(".*.xt-part-*"))
    assert not list(tmp_path.glob(".*.xt-part-*"))
    with open_image(images[0]) as image:
        direct = np.concatenate(list(encoded_batches(model, image, model.grid(image))))
    np.testing.assert_allclose(store.image(images[0]).read_features(0, 12), direct, rtol=2e-3, atol=1e-3)


def test_another_region_encoder_is_refused(model: XT, images: list[Path], tmp_path: Path) -> None:
    store = encode(tmp_path / "s.zarr", model, [])
    assert (
        store.identity
        == identity_of(small_model())
        == identity_of(small_model(dim=16, num_classes=5, class_names=None))
    )
    with pytest.raises(
        CheckpointError, match=r"its model\.tokens_per_region is 4, here it is 1; set it to that, or"
    ):
        store.check_encoder(small_model(tokens_per_region=1))
    with pytest.raises(CheckpointError, match=r"its data\.nodata is None, here it is nan"):
        store.check_encoder(model, nodata=float("nan"))
    other = small_model()
    with torch.no_grad():
        next(other.region_encoder.network.parameters()).view(-1)[0] += 1e-3
    with pytest.raises(
        CheckpointError, match=r"s\.zarr was made by another region encoder: of the same kind, but with"
    ):
        encode(tmp_path / "s.zarr", other, images)
    with pytest.raises(CheckpointError, match="another pixel_mean"):
        store.check_encoder(small_model(pixel_mean=[0.1, 0.2, 0.3]))
    swin = "swinv2_tiny_window8_256"
    few = small_of(swin, encoder_dtype="int8")
    laid = encode(tmp_path / "few.zarr", few, [])
    laid.check_encoder(few)
    with pytest.raises(
        CheckpointError, match=r"its model\.encoder_dtype is int8, here it is float32; set it to"
    ):
        laid.check_encoder(small_of(swin))
    state = store.encoder_state()
    for name, value in model.region_encoder.network.state_dict().items():
        assert torch.equal(state[f"backbone.{name}"], value), name


def test_changed_and_missing_images(model: XT, images: list[Path], tmp_path: Path) -> None:
    store = encode(tmp_path / "s.zarr", model, images[:1])
    store.check_images(images[:1], "table.csv")
    with pytest.raises(
        TableError, match=r"table\.csv: 1 of 2 images are not in .*1\.tif; run `xt encode` again"
    ):
        store.check_images(images, "table.csv")
    os.utime(images[0], ns=(1, 1))
    assert images[0] not in store
    with pytest.raises(ImageError, match=r"0\.tif was changed after it was encoded"):
        store.image(images[0])
    encode(tmp_path / "s.zarr", model, images[:1])
    assert images[0] in store
    # Without its pixels, what was found in them still stands.
    images[0].unlink()
    assert images[0] in store
    assert store.image(images[0]).read_features(0, 12).shape == (12, 4, 32)


def test_damage_is_told(
    model: XT, images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "_CHUNK_BYTES", 1)
    store = encode(tmp_path / "s.zarr", model, images)
    (store.place(images[0], 0) / "c" / "5" / "0" / "0").unlink()
    assert store.image(images[0]).read_features(0, 5).shape == (5, 4, 32)
    with pytest.raises(
        ImageError, match=r"\(the features of .*0\.tif\) is damaged \(a part is missing\): remove it"
    ):
        store.image(images[0]).read_features(4, 6)
    (store.place(images[1], 0) / "c" / "0" / "0" / "0").write_bytes(b"half")
    with pytest.raises(ImageError, match=r"1\.tif\) is damaged"):
        model(store.image(images[1]))


def test_what_is_no_store(model: XT, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.zarr is not a feature store .*`xt encode` writes them"):
        FeatureStore(tmp_path / "none.zarr")
    (tmp_path / "folder").mkdir()
    with pytest.raises(CheckpointError, match="folder is not a feature store"):
        encode(tmp_path / "folder", model, [])
    import zarr

    zarr.create_group(str(tmp_path / "other.zarr"))
    with pytest.raises(CheckpointError, match=r"is a Zarr group, but not a feature store of this version"):
        FeatureStore(tmp_path / "other.zarr")


def test_settings_of_a_store_stay(model: XT, tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    encode(path, model, [], dtype="float32", views=4)
    assert encode(path, model, []).views == 4
    with pytest.raises(ConfigError, match=r"was made with dtype float32, not float16"):
        encode(path, model, [], dtype="float16")
    with pytest.raises(ConfigError, match=r"was made with views 4, not 8"):
        encode(path, model, [], views=8)
    with pytest.raises(ConfigError, match=r"views 1, 4 or 8, got None and 3"):
        encode(path, model, [], views=3)
    with (
        open_for_encoding(path, model),
        pytest.raises(OutputError, match="another `xt encode` is writing"),
        open_for_encoding(path, model),
    ):
        pass
    with pytest.raises(
        ConfigError, match=r"quarter_turns, which need 8 views of each image, and .* has 4: set"
    ):
        FeatureStore(path).check_augmentation(flips=True, quarter_turns=True)
    FeatureStore(path).check_augmentation(flips=True, quarter_turns=False)


class _Times(torch.nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features * self.factor


@pytest.mark.parametrize(
    ("factor", "message"),
    [
        (1e7, r"0\.tif has features up to .*, too large for float16: encode with --dtype float32"),
        (float("nan"), r"the region encoder's answer for .*0\.tif is not a number"),
    ],
)
def test_features_that_cannot_be_stored(
    images: list[Path], tmp_path: Path, factor: float, message: str
) -> None:
    model = small_model().eval()
    model.region_encoder.pool = _Times(factor)
    with pytest.raises(PixelError, match=message):
        encode(tmp_path / "s.zarr", model, images)
    assert not [path for path in (tmp_path / "s.zarr").iterdir() if "-" in path.name]


def test_memory_does_not_grow_with_the_image(
    model: XT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regions of 64 pixels to 4 tokens of 32 features make 256 bytes each; a thousand times as many of them."""
    monkeypatch.setattr(encoding, "_CHUNK_BYTES", 2**12)
    monkeypatch.setattr(encoding, "open_image", lambda path, nodata, alpha: CountingImage(np.broadcast_to(
        np.uint8(7), (64, 64 * int(Path(path).stem), 3)
    )))  # fmt: skip
    model.region_encoder.features, peaks = (
        lambda pixels, valid: pixels[:, :1].new_ones(len(pixels), 400, 32),
        [],
    )
    try:
        with open_for_encoding(tmp_path / "s.zarr", model) as store:
            # Twice the last: what a thread of an earlier test allocates meanwhile is counted, too.
            for regions in (8, 32, 320, 321):
                tracemalloc.start()
                encode_image(store, model, tmp_path / f"{regions}.none")
                peaks.append(tracemalloc.get_traced_memory()[1])
                tracemalloc.stop()
    finally:
        del model.region_encoder.features
    # All features of the last would be 8 MB.
    assert min(peaks[2:]) < peaks[1] + 1e6
    monkeypatch.undo()
    assert len(store.image(tmp_path / "320.none").grid) == 320
    assert oriented(open_image(np.zeros((3, 5), np.uint8)), 4).shape == (5, 3)


def test_a_stack_is_known_by_all_its_files(
    model: XT, images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.tif"
    tifffile.imwrite(other, np.zeros((150, 200), np.uint8))
    store = FeatureStore(encode(tmp_path / "t.zarr", model, []).path)
    stack = f"{images[0]}|{other}"
    monkeypatch.chdir(tmp_path)
    assert store.place(stack, 0) == store.place(f"{images[0].name}|./{other.name}", 0)
    assert store.place(stack, 0) != store.place(images[0], 0)
    before = version_of(stack)
    assert before["size"] == images[0].stat().st_size + other.stat().st_size
    os.utime(other, ns=(0, images[0].stat().st_mtime_ns + 10**9))
    assert version_of(stack) != before
    other.unlink()
    assert version_of(stack) == {"size": None, "mtime_ns": None}
