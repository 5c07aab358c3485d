"""Files whose first picture is a thumbnail, and formats that xt does not read: one sentence each, no other pixels."""

import numpy as np
import pytest
from PIL import Image

import xt
from tests.images.files import smooth, write_raster
from xt.cli.main import main
from xt.errors import ImageError
from xt.images.folders import images_below

PIXELS = smooth(64, 48)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "a.vsi",
            r"index of an Olympus \(Evident\) slide, whose own picture is a thumbnail .* convert it to OME-TIFF",
        ),
        ("A.VSI", "index of an Olympus"),
        (
            "a.isyntax",
            "is a Philips iSyntax slide, which xt does not read: convert it to OME-TIFF first, with QuPath",
        ),
        ("a.czi", "is a Zeiss CZI file, which xt does not read"),
        ("a.nd2", "is a Nikon ND2 file"),
        ("a.bif", "not a Ventana BIF slide, or it is damaged"),
        ("a.scn", "not a Leica SCN slide, or it is damaged"),
    ],
)
def test_a_tiff_within_is_not_taken_for_the_slide(tmp_path, name, said, capsys):
    write_raster(tmp_path / name, PIXELS, driver="GTiff")
    with pytest.raises(ImageError, match=said):
        xt.open_image(tmp_path / name)
    assert images_below(tmp_path) == [str(tmp_path / name)], "so that it is not left out without a word"
    assert main(["info", str(tmp_path / name)]) == 2
    assert main(["tile", str(tmp_path / name), str(tmp_path / "t.tif")]) == 2
    assert capsys.readouterr().err.count(name) >= 2


@pytest.mark.parametrize("name", ["a.mrxs", "a.vms"])
def test_a_slide_without_its_folder_is_not_its_thumbnail(tmp_path, name):
    Image.fromarray(PIXELS).save(tmp_path / name, format="jpeg")
    with pytest.raises(ImageError, match=r"missing or incomplete: put (it|them) beside the file"):
        xt.open_image(tmp_path / name)


def test_other_names_say_nothing(tmp_path):
    write_raster(tmp_path / "a.svs", PIXELS, driver="GTiff")
    with xt.open_image(tmp_path / "a.svs") as image:
        np.testing.assert_array_equal(image.read(0, 0, 64, 48), PIXELS)


def test_one_list_of_endings_serves_all(tmp_path):
    from xt.data.class_folders import read_folder
    from xt.labels.formats.box_conversion import images_by_stem, stem_of
    from xt.prediction.inputs import find_images

    folder = tmp_path / "data" / "cat"
    (folder / "z.zarr" / "0").mkdir(parents=True)
    (folder / "z.zarr" / ".zattrs").write_text('{"multiscales": []}')
    (folder / "z.zarr" / "0" / "0.png").touch()
    names = [
        "a.jp2",
        "b.webp",
        "c.qptiff",
        "d.TIFF",
        "e.ome.tif",
        "f.vrt",
        "g.svs",
        "h.j2k",
        "i.bmp",
        "j.ntf",
    ]
    for name in [*names, "k.h5", "l.nc", "m.txt", ".n.tif", "o.xml"]:
        (folder / name).touch()
    expected = [str(folder / name) for name in [*names, "z.zarr"]]
    assert find_images([str(tmp_path)]) == expected
    assert [str(path) for path in read_folder(tmp_path / "data").paths] == expected
    assert list(images_by_stem(folder)) == [*"abcdefghij", "z"]
    assert [stem_of(name) for name in ("x/e.ome.tif", "e.xml", "e.ome.xml", "b.webp", "v1.2")] == [
        *"eeeb",
        "v1.2",
    ]


def test_a_folder_of_containers_says_how_their_parts_are_named(tmp_path):
    from xt.prediction.inputs import find_images

    (tmp_path / "a.h5").touch()
    with pytest.raises(
        ImageError, match=r"holds no image; .* parts of .h5 and .nc files are named one by one"
    ):
        find_images([str(tmp_path)])
