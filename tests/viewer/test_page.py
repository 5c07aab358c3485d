"""The page in a browser: what is on the screen is what the library reads, and nothing comes from elsewhere."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
import tifffile
import zarr

pytest.importorskip("nicegui", reason="the viewer's packages are not installed")

import xt
from tests.shared_data import shared_data
from tests.viewer.browser import Opened
from xt.viewer.looks import Look

SECTION = Path(xt.__file__).parent / "demo" / "assets" / "section.ome.tif"
# A screen's JPEG tiles differ from the file's pixels by so much on average.
CLOSE = 3
SIDE = 160


def write_scene(path: Path) -> Path:
    """Georeferenced, of three bands, with smooth colours and a corner where nothing is."""
    y, x = np.mgrid[0:500, 0:700]
    pixels = np.stack([y / 2, x / 3, (x + y) / 5]).astype(np.uint8)
    pixels[:, :60, :60] = 0
    with rasterio.open(
        path, "w", driver="GTiff", height=500, width=700, count=3, dtype="uint8", nodata=0, crs="EPSG:32633",
        transform=rasterio.Affine(2.0, 0, 500_000, 0, -2.0, 5_000_000),
    ) as file:  # fmt: skip
        file.write(pixels)
    return path


def write_stack(path: Path) -> Path:
    """16 bits, four channels with names."""
    y, x = np.mgrid[0:420, 0:380]
    values = np.stack([300 + 20 * y, 100 + 30 * x, 5000 + 7 * (x + y), 9 * y + 1]).astype(np.uint16)
    names = {"Channel": {"Name": ["DAPI", "FITC", "Cy3", "Cy5"]}, "axes": "CYX"}
    tifffile.imwrite(path, values, metadata=names, ome=True, tile=(128, 128))
    return path


def write_zarr(path: Path) -> Path:
    y, x = np.mgrid[0:300, 0:330]
    values = (y * 3 + x).astype(np.uint8)[None]
    group = zarr.open_group(path, mode="w", zarr_format=2)
    group.create_array("0", data=values, chunks=(1, 128, 128))
    axes = [{"name": "c", "type": "channel"}, {"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    scale = [{"type": "scale", "scale": [1.0, 0.5, 0.5]}]
    datasets = [{"path": "0", "coordinateTransformations": scale}]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    return path


@pytest.fixture(scope="module")
def opened(browser, tmp_path_factory):
    """A page with an image of each kind in its list."""
    folder = tmp_path_factory.mktemp("images")
    shutil.copy(SECTION, folder / "section.ome.tif")
    images = [
        write_scene(folder / "scene.tif"),
        write_stack(folder / "stack.ome.tif"),
        write_zarr(folder / "cells.zarr"),
    ]
    with xt.view([folder / "section.ome.tif", *images]) as view:
        opened = Opened(browser, view)
        opened.folder = folder
        yield opened
        opened.page.close()


@pytest.mark.parametrize("name", ["section.ome.tif", "scene.tif", "stack.ome.tif", "cells.zarr"])
def test_an_image_is_shown_as_it_is_read(opened, name):
    opened.choose(name)
    with xt.open_image(opened.folder / name) as image:
        facts = opened.facts
        y, x = image.shape[0] // 2, image.shape[1] // 2
        opened.go(y, x, facts["deepest"])
        top, left = y - SIDE // 2, x - SIDE // 2
        look = facts["look"]
        drawn = Look(tuple(look["bands"]), tuple(look["low"]), tuple(look["high"])).colour(
            *image.read_usable(top, left, SIDE, SIDE)
        )
        shown = opened.pixels(top, left, SIDE, SIDE)
        assert np.abs(shown.astype(int) - drawn[..., :3]).mean() < CLOSE
        values = [
            facts["channels"][i]["name"] + f" {value}" for i, value in enumerate(image.read(y, x, 1, 1)[0, 0])
        ]
        assert opened.point_at(y, x).split("   ") == values
    assert opened.foreign == []
    assert opened.errors == []


@pytest.mark.slow
def test_a_real_slide(browser):
    slide = shared_data("wsi_cmu_small_region/CMU-1-Small-Region.svs")
    with xt.view(slide) as view, xt.open_image(slide) as image:
        opened = Opened(browser, view)
        opened.go(1500, 1200, opened.facts["deepest"])
        shown = opened.pixels(1400, 1100, SIDE, SIDE)
        # JPEG keeps less of the colours of stained tissue; a pixel beside would be much further off.
        off = [np.abs(shown.astype(int) - image.read(1400 + y, 1100, SIDE, SIDE)).mean() for y in (-1, 0, 1)]
        assert off[1] < 8
        assert off[1] < 0.6 * min(off[0], off[2])
        assert opened.point_at(1500, 1200).split()[2::3] == [
            str(value) for value in image.read(1500, 1200, 1, 1)[0, 0]
        ]
        assert "µm" in opened.text(".xt-scale")
        opened.page.close()


def test_zoom_scale_and_place_on_the_map(opened):
    opened.choose("scene.tif")
    opened.go(250, 350, 1)
    assert opened.text(".xt-readout .zoom") == "1 : 2"
    # Pixels of two metres.
    assert opened.text(".xt-scale") == "500 m"
    width = opened.page.locator(".xt-scale").bounding_box()["width"]
    assert width - 16 == pytest.approx(500 / 2 / 2, abs=0.5)
    opened.page.mouse.move(*opened.to_screen(250, 350))
    opened.page.mouse.wheel(0, -120)
    opened.page.wait_for_function(f"{opened.map()}.getZoom() === 2")
    opened.point_at(100, 200)
    assert opened.text(".xt-readout .map") == "500400, 4999800"


def test_missing_pixels_are_clear(opened):
    opened.choose("scene.tif")
    opened.go(60, 60, 2)
    assert np.ptp(opened.pixels(10, 10, 40, 40).reshape(-1, 3), axis=0).max() == 0
    assert opened.point_at(20, 20) == "band 1 missing   band 2 missing   band 3 missing"


def test_a_look_changes_the_picture(opened):
    opened.choose("stack.ome.tif")
    opened.open_panel("Look")
    opened.page.get_by_text("one band").click()
    opened.page.get_by_label("colour map").click()
    opened.page.get_by_role("option", name="magma").click()
    opened.page.wait_for_function(f"{opened.map()} && document.querySelector('.xt-scene').xtScene.maps[0]"
                                  ".tiles.shown.get('image').options.address.includes('magma')")  # fmt: skip
    opened.wait()
    facts = opened.facts
    opened.go(210, 190, facts["deepest"])
    with xt.open_image(opened.folder / "stack.ome.tif") as image:
        channel = facts["channels"][0]
        look = Look((0,), (channel["low"],), (channel["high"],), colours="magma")
        drawn = look.colour(*image.read_usable(150, 150, SIDE // 2, SIDE // 2))
        shown = opened.pixels(150, 150, SIDE // 2, SIDE // 2)
        assert np.abs(shown.astype(int) - drawn[..., :3]).mean() < CLOSE
    opened.open_panel("Look")


def test_two_images_move_together(opened):
    opened.choose("scene.tif")
    opened.go(250, 350, 2)
    alone = opened.screen()
    opened.open_panel("Compare")
    opened.page.get_by_text("swipe", exact=True).click()
    opened.page.wait_for_function("document.querySelector('.xt-scene').xtScene.maps.length === 2")
    opened.go(250, 350, 2)
    swiped, middle = opened.screen(), alone.shape[1] // 2
    np.testing.assert_array_equal(swiped[200:400, 200 : middle - 40], alone[200:400, 200 : middle - 40])
    assert (
        np.abs(swiped[200:400, middle + 40 : -200].astype(int) - alone[200:400, middle + 40 : -200]).mean()
        > 10
    )
    first, second = (
        opened.page.evaluate(f"[{opened.map(side)}.getCenter().lat, {opened.map(side)}.getCenter().lng]")
        for side in (0, 1)
    )
    # Nothing says how the two lie: the whole of one is on the whole of the other.
    scale = second[0] / first[0]
    assert second[1] / first[1] == pytest.approx(scale)
    divider = opened.page.locator(".xt-divider").bounding_box()
    opened.page.mouse.move(divider["x"] + 12, divider["y"] + 200)
    opened.page.mouse.down()
    opened.page.mouse.move(divider["x"] - 188, divider["y"] + 200)
    opened.page.mouse.up()
    assert opened.page.locator(".xt-divider").bounding_box()["x"] == pytest.approx(divider["x"] - 200, abs=2)
    opened.page.get_by_text("side by side").click()
    opened.page.wait_for_function("document.querySelector('.xt-scene').xtScene.arrangement === 'beside'")
    opened.wait()
    boxes = [opened.page.locator(".xt-side").nth(side).bounding_box() for side in (0, 1)]
    assert boxes[1]["x"] >= boxes[0]["x"] + boxes[0]["width"] - 1
    opened.page.get_by_text("one image").click()
    opened.page.wait_for_function("document.querySelector('.xt-scene').xtScene.maps.length === 1")
    opened.open_panel("Compare")
    assert opened.errors == []
