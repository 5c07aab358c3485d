"""What dense heads and context are for: what is to be found at a place depends on what lies far away."""

from collections import Counter

import numpy as np
import pytest

from xt.context_encoders import CONTEXT_ENCODERS
from xt.demo.clutter import make_stamps
from xt.demo.key_scenes import CELL, KeyLayout
from xt.demo.key_task import key_model, key_scene, learn
from xt.demo.settings import KeyTask, Stage
from xt.errors import ConfigError

LAYOUT = KeyLayout.square(4, kinds=4, of_each=2)
LAYOUT_IN_SMALL = KeyLayout.square(2, kinds=3, of_each=1)


def in_small(stage: Stage) -> KeyTask:
    return KeyTask(
        stages=(stage,),
        evaluation=LAYOUT_IN_SMALL,
        evaluation_images=80,
        choosing=LAYOUT_IN_SMALL,
        choosing_images=40,
    )


@pytest.fixture
def few_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of clutter: all of them take seconds to draw."""
    shapes = make_stamps(np.random.default_rng(0), 100)
    monkeypatch.setattr("xt.demo.key_task._stamps", lambda pool: shapes)


@pytest.mark.slow
def test_of_whatever_is_marked_one_in_as_many_as_there_are_kinds_is_right() -> None:
    keys: Counter[int] = Counter()
    for seed in range(300):
        scene = key_scene(LAYOUT, "train", 0, seed)
        labels = Counter(digit.label for digit in scene.scene.digits[1:])
        assert sorted(labels.values()) == [2, 2, 2, 2]
        assert len(scene.matches) == len(scene.points()) == 2
        # Which of the kinds, by the order of their numbers, is the key's.
        keys[sorted(labels).index(scene.key.label)] += 1
    # Each as likely: 75 of 300, with four standard deviations.
    assert all(45 <= keys[kind] <= 105 for kind in range(4)), keys
    precision, recall = 1 / 4, 1.0
    assert LAYOUT.chance == pytest.approx(2 * precision * recall / (precision + recall))


def test_digits_lie_in_cells_of_their_own_and_the_key_in_the_corner(few_shapes: None) -> None:
    for seed in range(30):
        scene = key_scene(LAYOUT, "heldout", 1, seed)
        cells = [(digit.y // CELL, digit.x // CELL) for digit in scene.scene.digits]
        assert cells[0] == (0, 0)
        assert len(set(cells)) == len(cells)
        for digit in scene.scene.digits:
            assert (digit.y + digit.side - 1) // CELL == digit.y // CELL
            assert (digit.x + digit.side - 1) // CELL == digit.x // CELL
        assert {(y // CELL, x // CELL) for y, x in zip(scene.points().y, scene.points().x, strict=True)} == {
            (digit.y // CELL, digit.x // CELL) for digit in scene.matches
        }


def test_the_frame_is_around_the_key_alone_and_leaves_its_ink(few_shapes: None) -> None:
    scene = key_scene(LAYOUT, "train", 2)
    plain = scene.scene.read(0, 0, LAYOUT.height, LAYOUT.width)
    changed = np.argwhere(scene.pixels() != plain)
    key = scene.key
    assert len(changed) > 200
    assert changed.max() < CELL
    inside = scene.pixels()[key.y : key.y + key.side, key.x : key.x + key.side]
    assert np.array_equal(inside, plain[key.y : key.y + key.side, key.x : key.x + key.side])


def test_no_clutter_of_training_images_is_on_held_out_ones() -> None:
    shapes = [
        {stamp.tobytes() for stamp in key_scene(LAYOUT, pool, 0).scene.stamps}
        for pool in ("train", "heldout")
    ]
    assert all(len(known) > 1000 for known in shapes)
    # Any two rectangles filled alike and of one size are the same.
    assert len(shapes[0] & shapes[1]) < 20


def test_too_many_digits_are_refused() -> None:
    with pytest.raises(
        ConfigError, match="128 x 128 pixels has 3 squares of 64 beside that of the key, and 4 other"
    ):
        key_scene(KeyLayout.square(2, 4, 1), "train", 0)
    with pytest.raises(ConfigError, match=r"100 x 190 pixels has 1 squares? .* 2 other digits: take larger"):
        key_scene(KeyLayout(100, 190, 2, 1), "train", 0)


def test_a_window_of_a_key_scene_is_the_same_part_of_all_of_it() -> None:
    scene = key_scene(KeyLayout(200, 330, 3, 2), "train", 4)
    whole = scene.pixels()
    assert whole.shape == (200, 330)
    for y, x, height, width in ((0, 0, 30, 30), (10, 20, 100, 300), (150, 100, 50, 230)):
        assert np.array_equal(scene.read(y, x, height, width), whole[y : y + height, x : x + width])


@pytest.mark.slow
def test_without_context_it_stays_at_chance() -> None:
    # As long as it takes to find digits: more does not help.
    learned = learn(key_model("none"), in_small(Stage(LAYOUT_IN_SMALL, 800, 16, 120)))
    # It marks every digit, one in three of which is right: 0.5, with a standard deviation of about 0.03.
    assert 0.35 < learned.f1 < 0.6


@pytest.mark.slow
def test_with_context_what_is_like_the_key_is_found_in_small() -> None:
    task = in_small(Stage(LAYOUT_IN_SMALL, 2500, 32, 240))
    assert learn(key_model("mamba"), task).f1 > 0.8


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("context", [name for name in CONTEXT_ENCODERS if name != "none"])
def test_with_context_what_is_like_the_key_is_found(context: str) -> None:
    small, middle, *_ = KeyTask().stages
    # Attention takes longer to find the key than the state spaces, whose gates multiply.
    stages = small._replace(steps=900), middle._replace(steps=500)
    task = KeyTask(stages=stages, choosing=LAYOUT, choosing_images=20)
    assert learn(key_model(context), task).f1 > 0.8
