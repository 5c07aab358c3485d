"""Image and labels as one: whatever is cut, mirrored and turned, each label stays on its pixel."""

import numpy as np
import pytest

import xt
from xt.data.augmentation import Augmentation
from xt.errors import ConfigError, ShapeError
from xt.heads import PointTable
from xt.labels.label_places import MaskPlaces, PointPlaces
from xt.labels.labelled import ImageWithMask, ImageWithPoints, Labelled, PointsOnImage, random_window
from xt.labels.targets import ClassNumbers, KnownPoints, MaskTarget

HEIGHT, WIDTH = 70, 110


def numbered_pair(kind: str) -> tuple[Labelled, np.ndarray]:
    """An image whose pixels are their own numbers, and labels that tell on which pixel they belong."""
    numbers = np.arange(HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)
    image = xt.open_image(numbers)
    if kind == "mask":
        return ImageWithMask(image, xt.open_image((numbers.astype(int) % 7).astype(np.uint8))), numbers
    places = np.random.default_rng(0).permutation(HEIGHT * WIDTH)[:60]
    y, x = np.divmod(places, WIDTH)
    return ImageWithPoints(image, PointTable(y + 0.5, x + 0.5, attributes={"number": places})), numbers


@pytest.mark.parametrize("kind", ["mask", "points"])
def test_labels_stay_on_their_pixels(kind):
    augmentation = Augmentation(train_size=48)
    shapes = set()
    for seed in range(30):
        generator = np.random.default_rng(seed)
        pair, _ = numbered_pair(kind)
        cut = pair.crop(9, 13, 40, 61).augmented(augmentation, generator)
        pixels = cut.image.read(0, 0, *cut.image.shape)[..., 0]
        shapes.add((pixels.shape, int(pixels[0, 0])))
        if kind == "mask":
            np.testing.assert_array_equal(cut.target.read(0, 0, *cut.image.shape)[..., 0], pixels % 7)
            continue
        y, x = np.floor(cut.target.y).astype(int), np.floor(cut.target.x).astype(int)
        assert len(y) > 5
        np.testing.assert_array_equal(pixels[y, x], cut.target.attributes["number"])
        assert set(np.unique(cut.target.y % 1)) == {0.5}
    assert len(shapes) == 8  # every way to lay a rectangle down


def test_points_turn_as_the_image():
    pair, _ = numbered_pair("points")
    for turns in range(-1, 6):
        image = pair.image.rotate(turns)
        points = PointsOnImage(pair.target, HEIGHT, WIDTH).rotate(turns)
        assert (points.height, points.width) == image.shape
        pixels = image.read(0, 0, *image.shape)[..., 0]
        y, x = points.points.y.astype(int), points.points.x.astype(int)
        np.testing.assert_array_equal(pixels[y, x], pair.target.attributes["number"])


def test_colours_change_in_the_image_alone():
    pair, numbers = numbered_pair("mask")
    augmentation = Augmentation(flips=False, quarter_turns=False, brightness=0.5, contrast=0.5)
    changed = pair.augmented(augmentation, np.random.default_rng(0))
    assert not np.array_equal(changed.image.read(0, 0, HEIGHT, WIDTH)[..., 0], numbers)
    np.testing.assert_array_equal(changed.target.read(0, 0, HEIGHT, WIDTH)[..., 0], numbers % 7)


def rare_mask() -> np.ndarray:
    mask = np.zeros((300, 420), np.uint8)
    mask[5:9, 410:] = 1
    mask[290:, 3:40] = 2
    mask[100:110, 130:140] = 2
    mask[0, 0] = 255
    mask[50, 60] = 9
    return mask


def test_pixels_of_rare_classes_are_drawn_each_as_likely(monkeypatch):
    monkeypatch.setattr(MaskPlaces, "CELL", 32)
    monkeypatch.setattr(MaskPlaces, "_CELLS_AT_ONCE", 4)
    mask = rare_mask()
    image = xt.open_image(mask)
    places = MaskPlaces(image, 3)
    assert places.totals.tolist() == [int((mask == label).sum()) for label in range(3)]
    assert places.wanted == [1, 2]
    generator = np.random.default_rng(0)
    drawn = np.array([places.draw(image, generator) for _ in range(4000)])
    rows, columns = (drawn - 0.5).astype(int).T
    assert set(mask[rows, columns]) == {1, 2}
    # Each class half of the time, and of 470 pixels of class 2 the block of 100 as often as its share.
    of_two = mask[rows, columns] == 2
    assert of_two.mean() == pytest.approx(0.5, abs=0.04)
    assert (rows[of_two] < 200).mean() == pytest.approx(100 / 470, abs=0.04)
    # Every one of the 40 pixels of class 1 comes up.
    assert len({(row, column) for row, column in zip(rows[~of_two], columns[~of_two], strict=True)}) == 40


def test_a_mask_of_one_class_has_no_place():
    image = xt.open_image(np.zeros((50, 50), np.uint8))
    assert MaskPlaces(image, 2).draw(image, np.random.default_rng(0)) is None
    assert PointPlaces(PointTable.empty())(np.random.default_rng(0)) is None


def window_origins(label_centred: float, count: int = 200) -> list[tuple[int, int]]:
    image = np.arange(400 * 500, dtype=np.float64).reshape(400, 500)
    pair = ImageWithPoints(xt.open_image(image), PointTable([20.5, 200.5], [480.5, 250.5]))
    origins = []
    for seed in range(count):
        find = PointPlaces(pair.target)
        window = random_window(pair, 64, label_centred, find, np.random.default_rng(seed))
        assert window.image.shape == (64, 64)
        origins.append(divmod(int(window.image.read(0, 0, 1, 1)[0, 0, 0]), 500))
    return origins


def test_windows_lie_around_labels_as_often_as_asked():
    def share(origins: list[tuple[int, int]]) -> float:
        holds = [
            any(oy <= y < oy + 64 and ox <= x < ox + 64 for y, x in ((20.5, 480.5), (200.5, 250.5)))
            for oy, ox in origins
        ]
        return float(np.mean(holds))

    around, anywhere = window_origins(1.0), window_origins(0.0)
    assert share(around) == 1
    assert share(anywhere) < 0.15
    assert share(window_origins(0.5)) == pytest.approx(0.5, abs=0.15)
    # The label is not always at the same place of the window, and not at its rim away from the image's edges.
    inside = [250.5 - x for y, x in around if y > 100]
    assert min(inside) >= 15.5
    assert max(inside) <= 49.5
    assert max(inside) - min(inside) > 25
    # Windows are anywhere in the image, up to its edges.
    assert min(y for y, _ in anywhere) < 20
    assert max(x for _, x in anywhere) > 416
    assert max(x for _, x in anywhere) <= 436


def test_a_window_larger_than_the_image_is_all_of_it():
    pair, numbers = numbered_pair("mask")
    window = random_window(pair, 80, 0.0, lambda generator: None, np.random.default_rng(0))
    assert window.image.shape == (HEIGHT, 80)
    whole = random_window(pair, 800, 1.0, lambda generator: (3.0, 4.0), np.random.default_rng(0))
    np.testing.assert_array_equal(whole.image.read(0, 0, HEIGHT, WIDTH)[..., 0], numbers)


def test_values_of_a_mask_become_class_numbers():
    mask = np.array([[0, 255, 128], [128, 7, 0]], np.int16)
    classes = ClassNumbers(xt.open_image(mask, nodata=7), (128, 0, 255))
    np.testing.assert_array_equal(classes.read(0, 0, 2, 3)[..., 0], [[1, 2, 0], [0, 255, 1]])
    _, known = classes.read_valid(-1, 0, 3, 3)
    np.testing.assert_array_equal(known[..., 0], [[0, 0, 0], [1, 1, 1], [1, 0, 1]])
    with pytest.raises(
        ShapeError, match=r"holds the value 7 near y=0, x=0; labels\.mask_values are 0, 128, 255"
    ):
        ClassNumbers(xt.open_image(mask), (128, 0, 255)).read(0, 0, 2, 3)


def test_labels_of_another_image_are_refused(tmp_path):
    import tifffile

    image = xt.open_image(np.zeros((30, 40), np.uint8))
    tifffile.imwrite(tmp_path / "m.tif", np.zeros((40, 30), np.uint8))
    with pytest.raises(ShapeError, match=r"m\.tif is 40 x 30 pixels; the mask of array 30x40x1 must be"):
        MaskTarget(tmp_path / "m.tif").on(image)
    tifffile.imwrite(tmp_path / "c.tif", np.zeros((30, 40, 3), np.uint8), photometric="rgb")
    with pytest.raises(ShapeError, match=r"c\.tif has 3 channels; a mask has one"):
        MaskTarget(tmp_path / "c.tif").on(image)
    with pytest.raises(ShapeError, match=r"labels\.csv has 1 points outside of array 30x40x1"):
        KnownPoints(PointTable([1.0, 30.0], [1.0, 1.0]), "labels.csv").on(image)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label_centred": 0.5}, "set augmentation.train_size"),
        ({"windows": 2}, "set augmentation.train_size"),
        ({"train_size": 9, "windows": 0}, "windows must be >= 1, got 0"),
        ({"train_size": 9, "label_centred": 1.1}, r"label_centred must be in \[0, 1\], got 1.1"),
    ],
)
def test_settings_that_mean_nothing(settings, message):
    with pytest.raises(ConfigError, match=message):
        Augmentation(**settings)
