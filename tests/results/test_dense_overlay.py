import numpy as np
import pytest
from PIL import Image

import xt
from xt.images import tile
from xt.labels.box_table import BoxTable
from xt.regions.grid import RegionGrid
from xt.regions.pyramid_grid import PyramidGrid
from xt.results.colours import class_colours, point_colours
from xt.results.dense_overlay import write_boxes_overlay, write_mask_overlay, write_points_overlay
from xt.results.seen_regions import seen_regions

NAMES = ["background", "water", "building"]
BLUE = (0.1, 0.2, 0.9)
GREY = 0.1 + 0.5 * (0.299 * 0.1 + 0.587 * 0.2 + 0.114 * 0.9)


def like(view: np.ndarray, colour) -> np.ndarray:
    return np.abs(view - np.array(colour) * 255).max(axis=-1) < 6


def view_of(path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def blended(colour, opacity: float = 0.65) -> np.ndarray:
    return opacity * np.array(colour) / 255 + (1 - opacity) * GREY


def grey_panel(view: np.ndarray) -> np.ndarray:
    """The part of a picture where the image is shown in grey."""
    grey = like(view, (GREY,) * 3)
    # Some pixels of letters are of this grey, too.
    rows, columns = (np.flatnonzero(grey.sum(axis=axis) > 100) for axis in (1, 0))
    return view[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def test_a_mask_lies_on_the_grey_image_in_its_colours(tmp_path):
    mask = np.zeros((3000, 2000), np.uint8)
    mask[:1500, 1000:] = 1
    mask[2250:, :1000] = 2
    mask[2250:, 1500:] = 255
    # As it is written: with levels.
    with xt.open_image(tile(xt.open_image(mask), tmp_path / "mask.tif")) as written:
        assert len(written.levels) > 1
        picture = np.full((300, 200, 3), BLUE, np.float32)
        counts = {"background": 3_375_000, "water": 1_500_000, "building": 750_000}
        write_mask_overlay(written, picture, tmp_path / "a.png", NAMES, counts, title="a.tif")
    view = view_of(tmp_path / "a.png")
    colours = class_colours(3)
    classes = [like(view, blended(colour)) for colour in colours]
    seen = like(view, (GREY,) * 3) & ~classes[1] & ~classes[2]
    areas = [int(where.sum()) for where in (seen, classes[1], classes[2])]
    nothing = int(like(view, (0.45 + GREY / 2,) * 3).sum())
    whole = int(like(view, BLUE).sum())
    assert nothing / whole == pytest.approx(1 / 16, rel=0.1)
    assert [area / whole for area in areas] == pytest.approx([9 / 16, 1 / 4, 1 / 8], rel=0.1)
    # Class 1 lies top right of class 2.
    centre = [np.argwhere(where).mean(axis=0) for where in classes[1:]]
    assert centre[0][0] < centre[1][0]
    assert centre[0][1] > centre[1][1]
    # The legend: bars in the full colours, as long as the shares.
    bars = [int(like(view, np.array(colour) / 255).sum()) for colour in colours[1:]]
    assert bars[0] / bars[1] == pytest.approx(2, rel=0.15)


def test_points_are_circles_in_the_colours_of_their_classes(tmp_path):
    points = {
        "y": np.array([100.0, 300.0, 300.0]),
        "x": np.array([100.0, 100.0, 300.0]),
        "score": np.array([0.9, 0.8, 0.7]),
        "label": np.array([0.0, 1.0, 1.0]),
    }
    picture = np.full((100, 100, 3), BLUE, np.float32)
    write_points_overlay(points, (400, 400), picture, tmp_path / "a.png", NAMES[:2], title="a.tif")
    panel_view = grey_panel(view_of(tmp_path / "a.png"))
    for label, expected in ((0, [(0.25, 0.25)]), (1, [(0.75, 0.25), (0.75, 0.75)])):
        ring = np.argwhere(like(panel_view, np.array(point_colours(2)[label]) / 255))
        centres = ring / panel_view.shape[:2]
        for y, x in expected:
            near = centres[np.abs(centres - (y, x)).max(axis=1) < 0.1]
            assert near.mean(axis=0) == pytest.approx((y, x), abs=0.01)
        assert all(np.abs(centres[:, None] - expected).max(axis=2).min(axis=1) < 0.1)


def test_boxes_are_frames_in_the_colours_of_their_classes(tmp_path):
    edges = [(40, 80, 120, 200), (240, 100, 360, 160), (220, 280, 300, 380)]
    boxes = BoxTable.of(edges, [0, 1, 1], scores=[0.9, 0.8, 0.7])
    picture = np.full((100, 100, 3), BLUE, np.float32)
    write_boxes_overlay(boxes, (400, 400), picture, tmp_path / "a.png", NAMES[:2], title="a.tif")
    panel_view = grey_panel(view_of(tmp_path / "a.png"))
    for label, expected in ((0, edges[:1]), (1, edges[1:])):
        drawn = np.argwhere(like(panel_view, np.array(point_colours(2)[label]) / 255))
        places = drawn * 400 / panel_view.shape[:2]
        seen = np.zeros(len(places), dtype=bool)
        for y0, x0, y1, x1 in expected:
            here = (
                np.abs(places - ((y0 + y1) / 2, (x0 + x1) / 2)) < ((y1 - y0) / 2 + 4, (x1 - x0) / 2 + 4)
            ).all(1)
            found = [*places[here].min(axis=0), *places[here].max(axis=0)]
            assert found == pytest.approx((y0, x0, y1, x1), abs=3)
            inside = np.abs(places - ((y0 + y1) / 2, (x0 + x1) / 2)) < ((y1 - y0) / 2 - 4, (x1 - x0) / 2 - 4)
            assert not inside.all(axis=1).any(), "the image is seen in it"
            seen |= here
        assert seen.all()


def test_of_very_many_boxes_the_best_are_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr("xt.results.dense_overlay._MOST_DRAWN", 1)
    boxes = BoxTable.of([(40, 80, 120, 200), (240, 100, 360, 160)], [0, 1], scores=[0.3, 0.8])
    picture = np.full((100, 100, 3), BLUE, np.float32)
    write_boxes_overlay(boxes, (400, 400), picture, tmp_path / "a.png", NAMES[:2], title="a.tif")
    panel_view = grey_panel(view_of(tmp_path / "a.png"))
    drawn = [like(panel_view, np.array(colour) / 255).any() for colour in point_colours(2)]
    assert drawn == [False, True]


def test_boxes_of_low_scores_are_faint(tmp_path):
    # Far apart, with nothing else in the picture.
    boxes = BoxTable.of([(40, 80, 120, 200), (240, 100, 360, 160)], [0, 0], scores=[0.1, 0.5])
    picture = np.full((100, 100, 3), BLUE, np.float32)
    write_boxes_overlay(boxes, (400, 400), picture, tmp_path / "a.png", NAMES[:2], title="a.tif")
    panel_view = grey_panel(view_of(tmp_path / "a.png"))
    # Orange stands out from grey by what it has more of red than of blue.
    stands_out = panel_view[..., 0] - panel_view[..., 2]
    middle = len(panel_view) * 180 // 400
    faint, strong = stands_out[:middle].max(), stands_out[middle:].max()
    assert faint == pytest.approx(0.2 * strong, abs=0.05 * strong)
    assert strong > 200


def test_no_points_at_all(tmp_path):
    points = {name: np.zeros(0) for name in ("y", "x", "score", "label")}
    picture = np.full((100, 100, 3), BLUE, np.float32)
    write_points_overlay(points, (400, 400), picture, tmp_path / "a.png", NAMES[:2], title="a.tif")
    view = view_of(tmp_path / "a.png")
    assert not like(view, np.array(point_colours(2)[0]) / 255).any()
    assert like(view, (GREY,) * 3).sum() > 100_000


def test_regions_that_were_decoded_are_drawn_on_the_image(tmp_path):
    grid = PyramidGrid.coarsest(RegionGrid(height=512, width=512, region_size=64), 3).opened(np.array([0]))
    looked = seen_regions(grid, None, (1.0, 1.0))
    nothing = {name: np.empty(0) for name in ("y", "x", "score", "label")}
    picture = np.full((100, 100, 3), 0.5, np.float32)
    path = tmp_path / "a.png"
    write_points_overlay(nothing, (512, 512), picture, path, NAMES[:1], title="a.tif", regions=looked)
    view = view_of(path)
    for colour in ((86, 180, 233), (0, 158, 115)):
        assert (np.abs(view - colour).max(axis=-1) < 40).sum() > 300
