"""DICOM slides: a folder of files is one image, whichever of them is named."""

import pickle

import numpy as np
import pytest

import xt
from tests.images.dicom_files import write_ct, write_level, write_slide
from xt.errors import DataWarning, ImageError
from xt.images.folders import images_below
from xt.images.names import files_of, identity, stem
from xt.prediction.inputs import file_version, find_images
from xt.testing.images import ImageContract

PIXELS = np.random.default_rng(0).integers(0, 255, (80, 112, 3), dtype=np.uint8)


@pytest.fixture
def slide(tmp_path):
    write_slide(tmp_path / "case7", PIXELS, ["b.dcm", "a.dcm"])
    return tmp_path / "case7"


class TestDicomContract(ImageContract):
    @pytest.fixture
    def image(self, slide):
        with xt.open_image(slide) as image:
            yield image

    @pytest.fixture
    def reference(self):
        return PIXELS

    @pytest.fixture
    def level_references(self):
        return [PIXELS, PIXELS[::2, ::2]]


@pytest.mark.parametrize("name", ["", "a.dcm", "b.dcm"])
def test_the_folder_and_each_file_are_the_same_image(slide, name):
    with xt.open_image(slide / name) as image:
        assert image.level_shapes == ((80, 112), (40, 56))
        assert image.microns_per_pixel == pytest.approx((0.5, 0.5))
        np.testing.assert_array_equal(image.read(0, 0, 80, 112), PIXELS)
        assert image.name == str(slide / name)
        again = pickle.loads(pickle.dumps(image))
    np.testing.assert_array_equal(again.read(0, 0, 8, 8, level=1), PIXELS[:16:2, :16:2])
    given = str(slide / name)
    assert identity(given) == str((slide / "a.dcm").resolve())
    assert stem(given) == "case7"
    assert files_of(given) == [str(slide / "a.dcm"), str(slide / "b.dcm")]
    size = sum((slide / each).stat().st_size for each in ("a.dcm", "b.dcm"))
    assert file_version(given)[0] == size


def test_a_slide_is_found_once(slide):
    for given in (
        [str(slide)],
        [str(slide.parent)],
        [f"{slide}/*.dcm"],
        [f"{slide.parent}/*"],
        [f"{slide.parent}/**"],
        [str(slide / "b.dcm"), str(slide / "a.dcm"), str(slide)],
    ):
        assert find_images(given) == [str(slide)], given


def test_other_images_in_the_folder_are_images_of_their_own(slide):
    (slide / "s3.tif").write_bytes(b"a picture")
    assert find_images([str(slide)]) == [str(slide / "a.dcm"), str(slide / "s3.tif")]
    assert stem(str(slide / "b.dcm")) == "a"
    assert identity(str(slide / "b.dcm")) == str((slide / "a.dcm").resolve()), "as it was before"
    with pytest.raises(
        ImageError, match=r"a folder of a DICOM slide and of other images: name the one .* \(a.dcm\)"
    ):
        xt.open_image(slide)
    with xt.open_image(slide / "a.dcm") as image:
        assert len(image.levels) == 2


def test_several_slides_in_one_folder(tmp_path):
    folder = tmp_path / "flat"
    # As archives name them: by numbers, without an ending.
    write_slide(folder, PIXELS, ["1.2.840.1", "1.2.840.2"])
    write_slide(folder, 255 - PIXELS, ["1.2.840.3", "IM0004"])
    assert find_images([str(folder)]) == [str(folder / "1.2.840.1"), str(folder / "1.2.840.3")]
    with xt.open_image(folder / "IM0004") as image:
        np.testing.assert_array_equal(image.read(0, 0, 8, 8), 255 - PIXELS[:8, :8])
    with pytest.raises(ImageError, match=r"a folder of 2 DICOM slides: .* \(1.2.840.1, 1.2.840.3\)"):
        xt.open_image(folder)
    assert len({stem(path) for path in find_images([str(folder)])}) == 2


def test_slides_in_subfolders_are_called_by_them(tmp_path):
    for name in ("one", "two.b"):
        write_slide(tmp_path / name, PIXELS, ["level0.dcm", "level1.dcm"])
    found = find_images([str(tmp_path)])
    assert found == [str(tmp_path / "one"), str(tmp_path / "two.b")]
    assert [stem(path) for path in found] == ["one", "two.b"]


def test_the_label_is_no_image(slide, tmp_path):
    write_level(slide / "label.dcm", PIXELS[:32, :32], "1.2.3", kind="LABEL")
    assert images_below(tmp_path) == [str(slide)]
    with pytest.raises(ImageError, match=r"label.dcm shows the label or an overview of a slide"):
        xt.open_image(slide / "label.dcm")


def test_what_is_no_slide_is_said(slide, tmp_path):
    scan = write_ct(tmp_path / "scan.dcm")
    with pytest.raises(
        ImageError, match=r"scan.dcm is a DICOM file but no whole slide image \(CT Image Storage\)"
    ):
        xt.open_image(scan)
    with pytest.warns(DataWarning, match=r"1 DICOM files are no whole slide images \(CT Image Storage\)"):
        assert find_images([str(tmp_path)]) == [str(slide)]
    only = tmp_path / "only"
    only.mkdir()
    write_ct(only / "scan")
    with pytest.raises(
        ImageError, match=r"a folder of DICOM files but no whole slide image \(CT Image Storage\)"
    ):
        xt.open_image(only)
    with pytest.raises(ImageError, match=r"holds no image"), pytest.warns(DataWarning):
        find_images([str(only)])


def test_a_damaged_one_is_said_when_its_turn_comes(slide, tmp_path):
    cut = tmp_path / "cut"
    cut.mkdir()
    (cut / "a.dcm").write_bytes((slide / "a.dcm").read_bytes()[:300])
    assert find_images([str(cut)]) == [str(cut)]
    with pytest.raises(ImageError, match=r"not a slide that OpenSlide can open, or it is damaged or cut off"):
        xt.open_image(cut / "a.dcm")
