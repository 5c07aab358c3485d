"""Key scenes: the framed digit in the top left corner says which of the digits elsewhere are to be found.

The digits elsewhere are of a few kinds, as many of each, and the key is of one of these kinds, each as likely. So
whoever sees all of a scene but its corner can do no better than chance: of whatever is marked, one in as many as
there are kinds is right (`chance`). The key itself is no riddle: it is clearly written, and no clutter lies on it.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from xt.demo.clutter import scatter
from xt.demo.digits import DigitPool
from xt.demo.scenes import DIGIT_SIDES, FIELD, PlacedDigit, Scene, lay
from xt.errors import ConfigError
from xt.heads import PointTable
from xt.images import LargeImage, open_image

# Digits lie in squares of this many pixels a side, one in each at most; the key has the first to itself.
CELL = 64
FRAME_MARGIN, FRAME_WIDTH = 9, 2
_FRAME_BRIGHTNESS = 150
# Of squares, where only some of a scene is inhabited.
_BLOCK = 16


class KeyLayout(NamedTuple):
    """What scenes are like.

    Attributes:
        height, width: in pixels, at least 64; digits lie in the whole squares of 64.
        kinds: of digits elsewhere, 2 to 10.
        of_each: how many digits of each kind.
        clutter: pieces of it per 64 x 64 pixels.
        inhabited: share of the squares of 1,024 pixels that digits and clutter lie in; all else but the key is plain,
            as skies and seas are.
    """

    height: int
    width: int
    kinds: int
    of_each: int
    clutter: float = 0.3
    inhabited: float = 1.0

    @classmethod
    def square(cls, cells: int, kinds: int, of_each: int, clutter: float = 0.3) -> "KeyLayout":
        """One of `cells` x `cells` squares of 64 pixels."""
        return cls(cells * CELL, cells * CELL, kinds, of_each, clutter)

    @property
    def chance(self) -> float:
        """The F1 of marking every digit, the best that can be done without the key: precision 1 / kinds, recall 1."""
        return 2 / (self.kinds + 1)


@dataclass(frozen=True)
class KeyScene:
    """What lies where: `scene.digits` are the key and then all others; `scene.label` is the key's kind."""

    scene: Scene

    @property
    def key(self) -> PlacedDigit:
        return self.scene.digits[0]

    @property
    def matches(self) -> list[PlacedDigit]:
        """The digits elsewhere that are of the key's kind."""
        return [digit for digit in self.scene.digits[1:] if digit.label == self.key.label]

    @property
    def height(self) -> int:
        return self.scene.height

    @property
    def width(self) -> int:
        return self.scene.width

    def read(self, y: int, x: int, height: int, width: int) -> np.ndarray:
        """Draw the window whose top left is (y, x), inside the scene: (height, width) uint8."""
        window = self.scene.read(y, x, height, width)
        lay_frame(window, self.key, y, x)
        return window

    def pixels(self) -> np.ndarray:
        """All of it, (height, width) uint8."""
        return self.read(0, 0, self.height, self.width)

    def image(self) -> LargeImage:
        return open_image(self.pixels()[..., None])

    def points(self) -> PointTable:
        """The middles of `matches`."""
        middles = np.array([(d.y + d.side / 2, d.x + d.side / 2) for d in self.matches])
        return PointTable(middles[:, 0], middles[:, 1])


def lay_frame(window: np.ndarray, digit: PlacedDigit, y: int, x: int) -> None:
    """Frame a digit in place, in the window whose top left is (y, x)."""
    side = digit.side + 2 * FRAME_MARGIN
    inside = slice(FRAME_WIDTH, side - FRAME_WIDTH)
    frame = np.full((side, side), _FRAME_BRIGHTNESS, np.uint8)
    frame[inside, inside] = 0
    lay(window, frame, digit.y - FRAME_MARGIN - y, digit.x - FRAME_MARGIN - x, np.maximum)


def make_key_scene(
    layout: KeyLayout, pool: DigitPool, rng: np.random.Generator, stamps: list[np.ndarray]
) -> KeyScene:
    """A random scene.

    Args:
        stamps: shapes of clutter to lay.

    Raises:
        ConfigError: so many digits do not fit.
    """
    rows, columns = layout.height // CELL, layout.width // CELL
    labels = np.repeat(rng.permutation(10)[: layout.kinds], layout.of_each)
    inhabited = _inhabited(layout, rng)
    # The first square is the key's.
    free = 1 + np.flatnonzero(inhabited[:rows, :columns].ravel()[1:])
    if len(labels) > len(free):
        raise ConfigError(
            f"a key scene of {layout.height} x {layout.width} pixels has {len(free)} squares of {CELL} beside that of "
            f"the key, and {len(labels)} other digits: take larger scenes or fewer digits"
        )
    places = np.insert(free[rng.permutation(len(free))[: len(labels)]], 0, 0)
    digits = []
    for label, place in zip((rng.choice(labels), *labels), places, strict=True):
        side = int(rng.integers(DIGIT_SIDES[0], DIGIT_SIDES[1] + 1))
        rim = FRAME_MARGIN if place == 0 else 0
        y, x = (int(start) for start in rng.integers(rim, CELL - side - rim + 1, 2))
        index = pool.pick_clear(int(label), rng) if place == 0 else pool.pick(int(label), rng)
        picture = pool.sprite(index, side) * rng.uniform(0.75, 1.0)
        row, column = divmod(int(place), columns)
        digits.append(PlacedDigit(int(label), row * CELL + y, column * CELL + x, picture.astype(np.uint8)))
    ground_shape = -(-layout.height // FIELD), -(-layout.width // FIELD)
    scene = Scene(
        layout.height,
        layout.width,
        digits[0].label,
        tuple(digits),
        _where_it_may_lie(
            scatter(stamps, layout.clutter, layout.height, layout.width, rng), stamps, inhabited
        ),
        stamps,
        rng.integers(4, 28, ground_shape, dtype=np.uint8),
    )
    return KeyScene(scene)


def _inhabited(layout: KeyLayout, rng: np.random.Generator) -> np.ndarray:
    """(rows, columns) of squares, those that overhang the edge with them: which may hold something."""
    rows, columns = -(-layout.height // CELL), -(-layout.width // CELL)
    if layout.inhabited == 1:
        return np.ones((rows, columns), bool)
    blocks = -(-rows // _BLOCK), -(-columns // _BLOCK)
    number = max(1, round(layout.inhabited * blocks[0] * blocks[1]))
    chosen = np.zeros(blocks[0] * blocks[1], bool)
    chosen[rng.permutation(len(chosen))[:number]] = True
    return chosen.reshape(blocks).repeat(_BLOCK, axis=0).repeat(_BLOCK, axis=1)[:rows, :columns]


def _where_it_may_lie(pieces: np.ndarray, stamps: list[np.ndarray], inhabited: np.ndarray) -> np.ndarray:
    """The pieces of clutter whose middle lies where something may, and that do not reach into the first square."""
    sizes = np.array([stamp.shape for stamp in stamps])[pieces[:, 2]]
    starts = pieces[:, :2]
    row, column = np.clip((starts + sizes // 2) // CELL, 0, np.array(inhabited.shape) - 1).T
    beside = ((starts >= CELL) | (starts + sizes <= 0)).any(axis=1)
    return pieces[beside & inhabited[row, column]]
