import os
import struct
import subprocess
import sys

import numpy as np
import pytest

import xt
from xt.errors import OutputError
from xt.results.decoded_image import DecodedImage
from xt.results.kept_pixels import NOTHING, KeptPixels
from xt.results.region_store import RegionStore

HEADER = {"model": "abc", "image": {"name": "a.tif", "size": 5}, "region batch": 4}
ENTRY_BYTES = 24


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "mask.tif.partial"


def filled(folder, batches) -> None:
    with RegionStore(folder, HEADER) as store:
        for batch in batches:
            store.append(batch)


def batches(count: int = 5) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (number + 1, 10), dtype=np.uint8) for number in range(count)]


def contents(folder) -> list[np.ndarray]:
    with RegionStore(folder, HEADER) as store:
        return [store.batch(number, np.uint8) for number in range(store.num_batches)]


def assert_holds(folder, expected) -> None:
    found = contents(folder)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other.ravel())


def test_goes_on_where_it_ended(folder):
    filled(folder, batches()[:3])
    with RegionStore(folder, HEADER) as store:
        assert store.num_batches == 3
        for batch in batches()[3:]:
            store.append(batch)
    assert_holds(folder, batches())


def test_cut_at_any_byte_the_whole_batches_before_remain(folder):
    filled(folder, batches())
    data, journal = (folder / name for name in ("regions.bin", "journal"))
    whole_data, whole_journal = data.read_bytes(), journal.read_bytes()
    ends = np.cumsum([batch.size for batch in batches()])
    for size in range(len(whole_data) + 1):
        data.write_bytes(whole_data[:size])
        journal.write_bytes(whole_journal)
        assert_holds(folder, batches()[: int((ends <= size).sum())])
    for size in range(len(whole_journal) + 1):
        data.write_bytes(whole_data)
        journal.write_bytes(whole_journal[:size])
        assert_holds(folder, batches()[: size // ENTRY_BYTES])
        assert data.stat().st_size == sum(batch.size for batch in batches()[: size // ENTRY_BYTES])


@pytest.mark.parametrize("file", ["regions.bin", "journal"])
def test_what_did_not_reach_the_disk_whole_is_computed_again(folder, file):
    # A machine without power may leave zeros in the middle of a file that was written later, too.
    filled(folder, batches())
    content = bytearray((folder / file).read_bytes())
    where = sum(batch.size for batch in batches()[:2]) + 3 if file == "regions.bin" else 2 * ENTRY_BYTES + 9
    content[where] ^= 1
    (folder / file).write_bytes(content)
    assert_holds(folder, batches()[:2])


def test_another_work_is_refused_or_begun_anew(folder):
    filled(folder, batches())
    other = HEADER | {"model": "xyz", "image": {"name": "b.tif", "size": 5}}
    with pytest.raises(
        OutputError, match="an unfinished prediction with another model and another image, which cannot"
    ):
        RegionStore(folder, other)
    assert_holds(folder, batches())
    (folder / "context.pt").write_bytes(b"tokens")
    with RegionStore(folder, other, restart=True) as store:
        assert store.num_batches == 0
        assert not store.context_path.exists()


def test_a_restart_of_the_same_work_begins_anew_too(folder):
    filled(folder, batches())
    with RegionStore(folder, HEADER, restart=True) as store:
        assert store.num_batches == 0


def test_what_may_differ_is_adopted(folder):
    filled(folder, batches())
    with RegionStore(folder, HEADER | {"region batch": 16}, adopt=("region batch",)) as store:
        assert store.header["region batch"] == 4
        assert store.num_batches == 5
    with pytest.raises(OutputError, match="another region batch, which"):
        RegionStore(folder, HEADER | {"region batch": 16})


def test_an_unreadable_header_begins_anew(folder):
    filled(folder, batches())
    (folder / "header.json").write_text("{half")
    with RegionStore(folder, HEADER) as store:
        assert store.num_batches == 0


def test_a_folder_of_somebody_else_is_left_alone(folder):
    folder.mkdir()
    (folder / "thesis.docx").touch()
    with pytest.raises(OutputError, match=r"it holds other files \(thesis\.docx \.\.\.\)"):
        RegionStore(folder, HEADER)
    assert os.listdir(folder) == ["thesis.docx"]


def test_one_at_a_time(folder):
    pytest.importorskip("fcntl")
    with RegionStore(folder, HEADER), pytest.raises(OutputError, match="another `xt predict` is writing to"):
        RegionStore(folder, HEADER)


def test_removed_at_the_end(folder):
    store = RegionStore(folder, HEADER)
    store.append(batches()[3])
    store.remove()
    assert not folder.exists()


FULL_DISK = """
import resource, signal, sys, numpy
from xt.results.region_store import RegionStore
from xt.errors import OutputError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = RegionStore(sys.argv[1], {"model": "abc"})
resource.setrlimit(resource.RLIMIT_FSIZE, (250_000, resource.RLIM_INFINITY))
try:
    for _ in range(5):
        store.append(numpy.full(100_000, 7, numpy.uint8))
except OutputError as error:
    print(error)
print(store.num_batches, "torch" in sys.modules)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits file sizes as POSIX does")
def test_a_full_disk_keeps_what_is_done(folder):
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(folder)], capture_output=True, text=True, check=True
    ).stdout
    assert "Could not write to" in done
    assert "What was done so far is kept there: make room and run the same again." in done
    assert done.splitlines()[-1] == "2 False"
    assert (folder / "regions.bin").stat().st_size == 200_000
    with RegionStore(folder, {"model": "abc"}) as store:
        assert store.num_batches == 2


def test_the_journal_has_24_bytes_a_region_batch(folder):
    # As the module says, for whoever reads it with another tool.
    filled(folder, batches())
    entries = struct.iter_unpack("<QQII", (folder / "journal").read_bytes())
    assert [(number, end) for number, end, _, _ in entries] == [(0, 10), (1, 30), (2, 60), (3, 100), (4, 150)]


@pytest.mark.parametrize("order", ["raster", "serpentine", "hilbert"])
@pytest.mark.parametrize("skipping", [False, True])
def test_windows_of_decoded_regions(folder, order, skipping):
    rng = np.random.default_rng(0)
    size, bands, height, width = 8, 3, 45, 61
    mask = rng.random((6, 8)) < 0.7 if skipping else None
    grid = xt.RegionGrid(height=height, width=width, region_size=size, order=order, mask=mask)
    whole = np.full((bands, 48, 64), NOTHING, np.uint8)
    decoded = rng.integers(0, 250, (len(grid), bands, size, size), dtype=np.uint8)
    for region, pixels in zip(grid, decoded, strict=True):
        whole[:, region.y : region.y + size, region.x : region.x + size] = pixels
    image = xt.open_image(np.zeros((height, width), np.uint8))
    with RegionStore(folder, HEADER) as store:
        for start in range(0, len(grid), 4):
            store.append(decoded[start : start + 4])
        for chosen in (range(1), range(1, 3)):
            found = DecodedImage(store, grid, image, kept=KeptPixels(bands - 1, size, True), bands=chosen)
            assert (found.shape, found.nodata) == ((height, width), NOTHING)
            for _ in range(30):
                y, x = rng.integers(0, 45), rng.integers(0, 61)
                h, w = rng.integers(1, 46 - y), rng.integers(1, 62 - x)
                expected = whole[chosen.start : chosen.stop, y : y + h, x : x + w].transpose(1, 2, 0)
                np.testing.assert_array_equal(found.read(y, x, h, w), expected)
