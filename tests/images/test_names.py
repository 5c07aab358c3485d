"""What an image can be called: parts of files, members of archives, wherever an image is named."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio.shutil
from scipy.io import netcdf_file

import xt
from tests.images.files import raster_pixels, smooth, write_raster
from xt.cli.main import main
from xt.data.dense_table import read_mask_table
from xt.data.table_files import read_table
from xt.errors import ImageError, TableError
from xt.images.names import below, files_of, identity, is_there, part_name, stem
from xt.images.remote import is_remote
from xt.prediction.inputs import file_version, find_images, image_stem

PAGES = smooth(80, 60, 3).reshape(2, 40, 60, 3)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Files with parts: a TIFF of two directories, a netCDF and an HDF5 file, an archive. Work goes on elsewhere."""
    data = tmp_path / "data"
    data.mkdir()
    write_raster(data / "pages.tif", PAGES[0])
    write_raster(data / "pages.tif", PAGES[1], APPEND_SUBDATASET="YES")
    with netcdf_file(data / "wind 1.nc", "w") as file:
        file.createDimension("y", 40)
        file.createDimension("x", 60)
        for page, name in enumerate(("u", "v")):
            variable = file.createVariable(name, "f4", ("y", "x"))
            # Without coordinates of its own, GDAL takes the last row of netCDF for the first.
            variable[:] = PAGES[page, ::-1, :, 0]
    depth = write_raster(
        data / "depth.tif", PAGES[0, ..., :1].astype("float32"), crs="EPSG:32633",
        transform=rasterio.Affine(1, 0, 5e5, 0, -1, 4e6),
    )  # fmt: skip
    rasterio.shutil.copy(depth, data / "depth.bag", driver="BAG")
    with zipfile.ZipFile(data / "scenes.zip", "w") as archive:
        archive.write(depth, "day 1/a.tif")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return data


# Beside the table; which band of which page it is.
PARTS = {
    "GTIFF_DIR:1:pages.tif": PAGES[0],
    "GTIFF_DIR:2:pages.tif": PAGES[1],
    'NETCDF:"wind 1.nc":u': PAGES[0, ..., :1],
    "netcdf:wind 1.nc:v": PAGES[1, ..., :1],
    # From below upwards, as that format has it.
    "HDF5:depth.bag://BAG_root/elevation": PAGES[0, ::-1, :, :1],
    "/vsizip/scenes.zip/day 1/a.tif": PAGES[0, ..., :1],
}


@pytest.mark.parametrize("name", PARTS)
def test_a_table_names_parts_of_files_beside_it(folder, name):
    table = folder / "table.csv"
    table.write_text(f'image,label,split\n"{name.replace(chr(34), chr(34) * 2)}",a,train\n')
    read = read_table(table)
    read.check_files()
    (path,) = read.paths
    with xt.open_image(path) as image:
        np.testing.assert_array_equal(image.read(0, 0, 40, 60), PARTS[name])
    # And the same where it is said by its place.
    assert identity(str(path)) == identity(below(folder, name))
    with xt.open_image(below(folder, name)) as image:
        assert image.shape == (40, 60)


@pytest.mark.parametrize("name", PARTS)
def test_inputs_of_predictions_and_what_their_results_are_called(folder, name):
    given = below(folder, name)
    assert find_images([given, given]) == [given]
    (file,) = files_of(given)
    assert Path(file).parent == folder
    assert file_version(given) == file_version(file)
    assert not set(image_stem(given)) & set('/\\:"*?<>|')
    assert main(["info", given]) == 0


def test_stems_tell_parts_apart(folder):
    stems = [image_stem(below(folder, name)) for name in PARTS]
    assert stems == ["pages-1", "pages-2", "wind 1-u", "wind 1-v", "depth-BAG_root-elevation", "a"]


def test_globs_of_files_of_which_a_part_is_named(folder):
    rasterio.shutil.copyfiles(folder / "pages.tif", folder / "more.tif")
    assert find_images([f"GTIFF_DIR:2:{folder}/*o*.tif"]) == [f"GTIFF_DIR:2:{folder}/more.tif"]
    found = find_images([f"GTIFF_DIR:1:{folder}/*e*.tif"])
    assert [Path(part_name(each).file).name for each in found] == ["depth.tif", "more.tif", "pages.tif"]
    with pytest.raises(ImageError, match=r"no file matches HDF5:.*x\*\.h5"):
        find_images([f"HDF5:{folder}/x*.h5://data"])


def test_stacks_and_label_rasters_of_parts(folder):
    (folder / "table.csv").write_text(
        'image,mask,split\n"NETCDF:wind 1.nc:u|NETCDF:wind 1.nc:v",GTIFF_DIR:2:pages.tif,train\n'
    )
    table = read_mask_table(folder / "table.csv", class_names=["a", "b"])
    with xt.open_image(table.paths[0]) as stack:
        np.testing.assert_array_equal(stack.read(0, 0, 40, 60), PAGES[..., 0].transpose(1, 2, 0))
    assert str(table.targets[0].path) == f"GTIFF_DIR:2:{folder / 'pages.tif'}"
    assert image_stem(str(table.paths[0])) == "wind 1"


def test_what_is_not_there_is_said(folder):
    (folder / "table.csv").write_text(
        "image,label\nHDF5:lost.h5://data,a\n/vsizip/lost.zip/a.tif,a\nGTIFF_DIR:1:pages.tif,a\n"
    )
    with pytest.raises(
        TableError, match=r"2 of 3 images are not on disk: HDF5:.*lost.h5:/+data, /vsizip/.*lost.zip/a.tif"
    ):
        read_table(folder / "table.csv").check_files()
    for name, file in (("HDF5:lost.h5://data", "lost.h5"), ("/vsizip/lost.zip/a.tif", "lost.zip")):
        with pytest.raises(ImageError, match=f"there is no file {file}, of which {name} would be a part"):
            xt.open_image(name)
    with pytest.raises(
        ImageError, match=r"there is no file lost.h5, of which HDF5:lost.h5://data would be a part"
    ):
        find_images(["HDF5:lost.h5://data"])


def test_tiling_a_part_of_a_file(folder, tmp_path):
    xt.images.tile(f"GTIFF_DIR:2:{folder}/pages.tif", tmp_path / "t.tif")
    np.testing.assert_array_equal(raster_pixels(tmp_path / "t.tif"), PAGES[1])
    with pytest.raises(xt.XTError, match="cannot be both read and written"):
        xt.images.tile(f"GTIFF_DIR:2:{folder}/pages.tif", folder / "pages.tif")


@pytest.mark.parametrize(
    ("name", "file", "after"),
    [
        ("SENTINEL2_L2A:MTD_MSIL2A.xml:10m:EPSG_32632", "MTD_MSIL2A.xml", ":10m:EPSG_32632"),
        ("SENTINEL2_L1C:/data/S2A.SAFE/MTD.xml:TCI:EPSG_32632", "/data/S2A.SAFE/MTD.xml", ":TCI:EPSG_32632"),
        (
            "SENTINEL2_L2A:/vsizip/S2.zip/S2.SAFE/MTD.xml:10m:EPSG_32632",
            "/vsizip/S2.zip/S2.SAFE/MTD.xml",
            ":10m:EPSG_32632",
        ),
        ("SENTINEL1_CALIB:UNCALIB:S1A.SAFE:IW_VV:AMPLITUDE", "S1A.SAFE", ":IW_VV:AMPLITUDE"),
        ('HDF4_EOS:EOS_GRID:"MOD 09.hdf":grid:sur_refl_b01', "MOD 09.hdf", '":grid:sur_refl_b01'),
        ("HDF4_SDS:UNKNOWN:a.hdf:0", "a.hdf", ":0"),
        ("GTIFF_DIR:off:408:../a.tif", "../a.tif", ""),
        # As a `pathlib.Path` leaves them.
        ("HDF5:a.h5:/data", "a.h5", "://data"),
        ('HDF5:"a.h5":/data', "a.h5", '"://data'),
        ("/vsitar/b/a.tar.gz/x.tif", "b/a.tar.gz", "/x.tif"),
        ("/vsizip/{a.zip}/x.tif", "a.zip", "}/x.tif"),
    ],
)
def test_names_are_taken_apart(name, file, after, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    part = part_name(name)
    assert (part.file, part.after) == (file, after)
    assert not is_there(name)
    start = file if file.startswith("/") else str(tmp_path / file)
    if not file.startswith("/vsi"):
        assert part_name(below(tmp_path, name)).file == start
    assert not set(stem(name)) & set('/\\:"')


@pytest.mark.parametrize(
    "name",
    [
        "https://host/a.tif", "s3:/bucket/a.tif", "/vsicurl/https://host/a.tif", "/vsizip/vsicurl/https://host/a.zip/b.tif",
        "/vsizip//vsis3/bucket/a.zip/b.tif", 'NETCDF:"https://host/a.nc":wind', "HDF5:/vsis3/bucket/a.h5://data",
        "/vsimem/a.tif",
    ],
)  # fmt: skip
def test_what_lies_elsewhere_is_left_to_gdal(name):
    assert is_remote(name)
    assert part_name(name) is None
    assert is_there(name)
    assert below(Path("/data"), name) == name
    assert files_of(name) == []


def test_an_archive_within_the_name_of_a_part_starts_at_the_tables_folder(tmp_path):
    name = "SENTINEL2_L2A:/vsizip/S2.zip/S2.SAFE/MTD.xml:10m:EPSG_32632"
    expected = f"SENTINEL2_L2A:/vsizip/{tmp_path}/S2.zip/S2.SAFE/MTD.xml:10m:EPSG_32632"
    assert below(tmp_path, name) == expected


def test_a_file_may_be_called_like_a_part(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_raster(Path("HDF5:a.tif"), PAGES[0], driver="GTiff")
    assert part_name("HDF5:a.tif") is None
    with xt.open_image("HDF5:a.tif") as image:
        assert image.channels == 3
