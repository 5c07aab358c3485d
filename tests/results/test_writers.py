import errno
from pathlib import Path

import numpy as np
import pytest
import rasterio
import tifffile

from xt.errors import OutputError
from xt.results.overlay import write_overlay
from xt.results.relevance import RelevanceMap
from xt.results.writers import write_relevance, write_table


def a_map(**place: object) -> RelevanceMap:
    values = np.random.default_rng(0).random((300, 20), dtype=np.float32)
    values[3, 4] = np.nan
    return RelevanceMap(values=values, pixel_size=16.0, image_shape=(4800, 320), **place)


def test_geotiff_with_coordinates(tmp_path):
    there = (320.0, 0.0, 500_000.0, 0.0, -320.0, 4_000_000.0)
    relevance = a_map(transform=there, crs="EPSG:32633")
    write_relevance(relevance, tmp_path / "map.tif", {"XT_PREDICTED": "eel"})
    with rasterio.open(tmp_path / "map.tif") as file:
        assert tuple(file.transform)[:6] == there
        assert file.crs.to_epsg() == 32633
        assert np.isnan(file.nodata)
        assert (file.dtypes[0], file.count, file.compression.value) == ("float32", 1, "DEFLATE")
        assert file.block_shapes == [(256, 256)]
        assert file.tags()["XT_PREDICTED"] == "eel"
        np.testing.assert_array_equal(file.read(1), relevance.values)
        assert file.read(1, masked=True).mask[3, 4]


def test_plain_tiff_with_resolution(tmp_path):
    relevance = a_map(microns_per_pixel=(8.0, 4.0))
    write_relevance(relevance, tmp_path / "map.tif")
    with tifffile.TiffFile(tmp_path / "map.tif") as file:
        page = file.pages[0]
        np.testing.assert_array_equal(page.asarray(), relevance.values)
        across, down = (page.tags[name].value for name in ("XResolution", "YResolution"))
        assert across[0] / across[1] == pytest.approx(2500)
        assert down[0] / down[1] == pytest.approx(1250)
        assert page.tags["ResolutionUnit"].value == 3
        assert not page.is_geotiff


def test_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match=r"map\.tif: the disk is full"):
        write_relevance(a_map(), tmp_path / "map.tif")
    with pytest.raises(OutputError, match=r"view\.png: the disk is full"):
        write_overlay(a_map(), np.zeros((48, 4, 3), np.float32), tmp_path / "view.png", title="a", answer="b")
    assert list(tmp_path.iterdir()) == []


def test_table_quotes_what_needs_it(tmp_path):
    write_table([{"image": 'a,"b".tif', "p(x)": 0.5}], ["image", "p(x)"], tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == 'image,p(x)\n"a,""b"".tif",0.5\n'
