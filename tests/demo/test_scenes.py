"""The demo's scenes: the label is right, digits lie far apart, and a block is what the whole has there."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from xt.demo.clutter import make_stamps
from xt.demo.digits import load_digits
from xt.demo.key_scenes import CELL, KeyLayout, make_key_scene
from xt.demo.scenes import LABELS, NUM_DIGITS, Scene, make_scene, write_scene
from xt.errors import ConfigError


def scene_of(label: int = 7, height: int = 700, width: int = 530, seed: int = 3) -> Scene:
    return make_scene(label, height, width, load_digits("train"), np.random.default_rng(seed))


def read_tiff(path: Path) -> tuple[np.ndarray, dict]:
    with pytest.warns(NotGeoreferencedWarning), rasterio.open(path) as file:
        return file.read(1), file.profile


@pytest.mark.parametrize("label", LABELS)
def test_label_is_the_largest_digit_and_is_there_once(label: int) -> None:
    for seed in range(20):
        labels = [digit.label for digit in scene_of(label, seed=seed).digits]
        assert len(labels) == NUM_DIGITS
        assert max(labels) == label
        assert labels.count(label) == 1


def test_digits_lie_inside_and_far_apart() -> None:
    for seed in range(20):
        scene = scene_of(seed=seed)
        for digit in scene.digits:
            assert 0 <= digit.y <= scene.height - digit.side
            assert 0 <= digit.x <= scene.width - digit.side
        for one, other in combinations(scene.digits, 2):
            assert np.hypot(one.y - other.y, one.x - other.x) >= 530 / 4


def test_a_seed_decides_everything() -> None:
    first, again, other = scene_of(seed=1), scene_of(seed=1), scene_of(seed=2)
    whole = first.read(0, 0, 700, 530)
    assert np.array_equal(whole, again.read(0, 0, 700, 530))
    assert not np.array_equal(whole, other.read(0, 0, 700, 530))


def test_any_window_equals_that_part_of_the_whole() -> None:
    scene = scene_of()
    whole = scene.read(0, 0, 700, 530)
    rng = np.random.default_rng(0)
    for _ in range(60):
        y, x = int(rng.integers(0, 699)), int(rng.integers(0, 529))
        height, width = int(rng.integers(1, 701 - y)), int(rng.integers(1, 531 - x))
        assert np.array_equal(scene.read(y, x, height, width), whole[y : y + height, x : x + width])


def test_ink_of_every_digit_shows() -> None:
    scene = scene_of()
    whole = scene.read(0, 0, scene.height, scene.width)
    for digit in scene.digits:
        there = whole[digit.y : digit.y + digit.side, digit.x : digit.x + digit.side]
        assert (there >= digit.picture).all()
        # Right beside the ink, nothing is as bright as the ink.
        assert there[digit.picture > 150].min() > 150
        assert digit.picture.max() > 180


def test_file_written_by_blocks_holds_the_whole_scene(tmp_path: Path) -> None:
    scene = scene_of()
    shares: list[float] = []
    write_scene(scene, tmp_path / "scene.tif", block=256, progress=shares.append)
    pixels, profile = read_tiff(tmp_path / "scene.tif")
    assert np.array_equal(pixels, scene.read(0, 0, 700, 530))
    assert profile["tiled"]
    assert profile["compress"] == "deflate"
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert len(shares) == 3


def test_a_tall_scene_is_written_in_the_memory_of_one_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heights: list[int] = []
    read = Scene.read

    def counted(self: Scene, y: int, x: int, height: int, width: int) -> np.ndarray:
        heights.append(height)
        return read(self, y, x, height, width)

    monkeypatch.setattr(Scene, "read", counted)
    write_scene(scene_of(height=2000, width=256), tmp_path / "tall.tif", block=512)
    assert heights == [512, 512, 512, 464]


def test_held_out_digits_are_none_of_the_training_digits() -> None:
    train, heldout = load_digits("train"), load_digits("heldout")
    assert np.bincount(train.labels).tolist() == [800] * 10
    assert np.bincount(heldout.labels).tolist() == [200] * 10
    known = {digit.tobytes() for digit in train.images}
    assert not known & {digit.tobytes() for digit in heldout.images}


def test_notice_names_licence_and_source_of_the_digits() -> None:
    notice = (Path(load_digits.__code__.co_filename).parent / "assets" / "NOTICE.txt").read_text()
    assert "Attribution-ShareAlike 3.0" in notice
    assert "http://yann.lecun.com/exdb/mnist/" in notice


def test_unknown_pool_label_and_block_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a pool of digits out of train, heldout, got 'val'"):
        load_digits("val")
    with pytest.raises(ConfigError, match=r"expected a label in .* and 256 pixels a side, got 3, 700 x 530"):
        scene_of(label=3)
    with pytest.raises(ConfigError, match="multiple of 256 rows, got 100"):
        write_scene(scene_of(), tmp_path / "scene.tif", block=100)


def test_keys_are_clearly_written_and_nothing_lies_on_them() -> None:
    pool = load_digits("heldout")
    rng = np.random.default_rng(0)
    picked = [pool.pick_clear(label, rng) for label in range(10) for _ in range(5)]
    assert [int(pool.labels[index]) for index in picked] == [label for label in range(10) for _ in range(5)]
    assert 0.4 < pool.clear.mean() < 0.9
    # As a plain search finds it.
    flat = pool.images.reshape(len(pool.images), -1).astype(float)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    for index in picked[::7]:
        nearest = np.argsort(-(flat @ flat[index]), kind="stable")[1:11]
        assert (pool.labels[nearest] == pool.labels[index]).sum() >= 9
    layout = KeyLayout.square(6, kinds=3, of_each=2, clutter=6.0)
    bare = layout._replace(clutter=0.0)
    stamps = make_stamps(rng, 40)
    for seed in range(5):
        scenes = [make_key_scene(each, pool, np.random.default_rng(seed), stamps) for each in (layout, bare)]
        key, same = (scene.read(0, 0, CELL, CELL) for scene in scenes)
        assert len(scenes[0].scene.pieces) > 20
        # The ground is drawn after the clutter, so that it alone differs.
        assert np.array_equal(key > 28, same > 28)
