"""What was looked at: the regions of a choice in the file's own pixels or on its map, as files, pictures and layers."""

import json

import numpy as np
import pytest
import rasterio
import shapely
from PIL import Image

import xt
from xt.errors import OutputError, TableError
from xt.regions.grid import RegionGrid
from xt.regions.pyramid_grid import PyramidGrid
from xt.results.overlay import write_overlay
from xt.results.panels import frame, layout
from xt.results.relevance import relevance_map
from xt.results.seen_regions import (
    SCALES,
    draw_seen_regions,
    read_seen_regions,
    seen_in_memory,
    seen_regions,
    write_seen_regions,
)


def grid(keep: bool = False) -> PyramidGrid:
    """Of 300 x 200 pixels in regions of 64: the coarsest, of which the first is opened."""
    coarsest = PyramidGrid.coarsest(RegionGrid(height=300, width=200, region_size=64), 3)
    return coarsest.with_opened(np.array([[4, 0, 0]]), keep)


def seen(keep: bool = False, step=(1.0, 1.0)):
    where = grid(keep)
    weights = np.linspace(1, 2, 4 * len(where))
    return seen_regions(where, weights / weights.sum(), step)


@pytest.mark.parametrize("keep", [False, True])
def test_regions_end_at_the_image_s_edge_and_coarse_ones_come_first(keep):
    looked = seen(keep)
    assert looked.scales.tolist() == [4] * (2 if keep else 1) + [2] * 4
    boxes = shapely.box(*looked.edges[:, [1, 0, 3, 2]].T)
    assert shapely.area(boxes[looked.scales == 2]).sum() + 44 * 200 == 300 * 200
    assert looked.edges[:, 2].max() == 300
    assert looked.edges[:, 3].max() == 200
    assert looked.relevance.mean() == pytest.approx(1)
    assert (looked.share, looked.finest, looked.possible) == (len(looked) / 20, 2, 20)


def test_a_model_s_pixels_become_those_of_the_file():
    assert np.allclose(seen(step=(2.0, 1.5)).edges, seen().edges * (2.0, 1.5, 2.0, 1.5))


@pytest.mark.parametrize("kind", ["png", "map", "mirrored"])
def test_what_is_written_lies_on_the_image_when_it_is_read(tmp_path, kind):
    pixels = np.zeros((300, 200, 3), np.uint8)
    path = tmp_path / ("image.png" if kind == "png" else "image.tif")
    if kind == "png":
        Image.fromarray(pixels).save(path)
    else:
        down = -2.0 if kind == "map" else 2.0
        transform = rasterio.Affine(2.0, 0, 500_000, 0, down, 4_000_000)
        with rasterio.open(
            path, "w", driver="GTiff", height=300, width=200, count=3, dtype="uint8", crs="EPSG:32618",
            transform=transform,
        ) as file:  # fmt: skip
            file.write(pixels.transpose(2, 0, 1))
    image, looked = xt.open_image(path), seen(keep=True)
    written = write_seen_regions(looked, image, tmp_path / "image.regions.geojson")
    found = json.loads(written.read_text())
    assert len(found["features"]) == len(looked)
    properties = found["features"][-1]["properties"]
    if kind == "png":
        assert properties["classification"]["name"] == "scale 2"
        assert properties["measurements"]["scale"] == 2
        assert found["features"][-1]["geometry"]["coordinates"][0][2] == [200, 256]
    else:
        assert found["crs"]["properties"]["name"].endswith("32618")
        assert (properties["class"], properties["scale"]) == ("scale 2", 2)
        assert properties["relevance"] == pytest.approx(looked.relevance[-1], rel=1e-5)
    numbers = properties.get("measurements", properties)
    assert [repr(numbers[name]) for name in ("y", "x", "height", "width")] == ["128", "128", "128", "72"]
    layer = read_seen_regions(written)
    assert layer.class_names == SCALES[:3]
    assert layer.labels.tolist() == looked.levels.tolist()
    assert shapely.equals(
        shapely.set_precision(layer.geometries, 1e-3), shapely.box(*looked.edges[:, [1, 0, 3, 2]].T)
    ).all()
    assert shapely.equals(seen_in_memory(looked).geometries, layer.geometries).all()


def test_beyond_the_rim_of_a_map_regions_are_there_all_the_same(tmp_path):
    side, path = 5_568_748.0, tmp_path / "disk.tif"
    crs = "+proj=geos +h=35785831 +lon_0=0 +sweep=y +ellps=GRS80 +units=m"
    transform = rasterio.Affine(side / 256, 0, -side, 0, -side / 256, side)
    with rasterio.open(
        path, "w", driver="GTiff", height=512, width=512, count=1, dtype="uint8", crs=crs, transform=transform
    ) as file:
        file.write(np.zeros((1, 512, 512), np.uint8))
    where = PyramidGrid.coarsest(RegionGrid(height=512, width=512, region_size=64), 2)
    looked = seen_regions(where, np.ones(len(where)), (1.0, 1.0))
    written = write_seen_regions(looked, xt.open_image(path), tmp_path / "disk.regions.geojson")
    located = [one["geometry"] is not None for one in json.loads(written.read_text())["features"]]
    assert 0 < sum(located) < len(looked)
    assert shapely.equals(read_seen_regions(written).geometries, seen_in_memory(looked).geometries).all()


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"features": [{}]}', '{"features": [{"properties": {"scale": 3}}]}']
)
def test_what_is_no_such_file_is_said(tmp_path, text):
    (tmp_path / "a.regions.geojson").write_text(text)
    with pytest.raises(TableError, match="does not hold regions as xt predict writes them"):
        read_seen_regions(tmp_path / "a.regions.geojson")


def test_nothing_half_written_stays(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write_seen_regions(seen(), xt.open_image(np.zeros((300, 200, 3), np.uint8)), tmp_path / "file" / "x")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_picture_shows_each_scale_in_its_colour(tmp_path):
    coarsest = PyramidGrid.coarsest(RegionGrid(height=512, width=512, region_size=64), 3)
    where = coarsest.with_opened(np.array([[4, 0, 0]]))
    weights = np.ones(4 * len(where))
    path = write_overlay(
        relevance_map(weights, where, 2), np.full((128, 128, 3), 0.5, np.float32), tmp_path / "view.png", title="t",
        answer="a", regions=seen_regions(where, weights, (1.0, 1.0)),
    )  # fmt: skip
    drawn = np.asarray(Image.open(path).convert("RGB")).astype(int)
    for colour in ((86, 180, 233), (0, 158, 115)):
        assert (np.abs(drawn - colour).max(axis=-1) < 40).sum() > 300


@pytest.mark.parametrize("levels", [1, 3, 7])
@pytest.mark.parametrize("shape", [(512, 512), (64, 4096), (4096, 64)])
def test_the_legend_covers_nothing_of_the_image(levels, shape):
    fine = RegionGrid(height=shape[0], width=shape[1], region_size=16)
    where = PyramidGrid.coarsest(fine, levels)
    while where.scales.min() > 1:
        where = where.with_opened(np.array([[where.scales.min(), 0, 0]]), True)
    if levels == 1:
        where = PyramidGrid(fine, where.places[1:])
    figure, (axes, _), _ = layout(shape, 0)
    frame(axes, shape)
    draw_seen_regions(axes, seen_regions(where, None, (1.0, 1.0)))
    figure.canvas.draw()
    legend, picture = axes.get_legend().get_window_extent(), axes.get_window_extent()
    assert len(axes.get_legend().get_texts()) == len(set(where.scales.tolist()))
    assert not legend.overlaps(picture)
    assert figure.bbox.x0 <= legend.x0 < legend.x1 <= figure.bbox.x1
    assert figure.bbox.y0 <= legend.y0 < legend.y1 <= figure.bbox.y1


def test_where_everything_was_looked_at_nothing_is_drawn():
    _figure, (axes, _), _ = layout((100, 100), 0)
    everything = PyramidGrid.coarsest(RegionGrid(height=100, width=100, region_size=64), 1)
    draw_seen_regions(axes, seen_regions(everything, None, (1.0, 1.0)))
    assert not axes.collections
    assert axes.get_legend() is None
