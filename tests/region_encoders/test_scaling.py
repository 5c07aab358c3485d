import numpy as np
import pytest
import torch

from xt.errors import ShapeError
from xt.region_encoders.scaling import MISSING, PixelScaling, unit_scale


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [(np.dtype("uint8"), 255), (torch.uint16, 65535), (np.dtype("int16"), 32767), (torch.float32, 1)],
)
def test_full_scale_of_each_type(dtype, scale):
    assert unit_scale(dtype) == scale


def test_the_same_picture_in_any_type_scales_to_the_same_values():
    scaling = PixelScaling([0.4, 0.5], [0.2, 0.3])
    picture = torch.randint(0, 256, (2, 2, 5, 5))
    expected = scaling(picture / 255)
    mean, std = torch.tensor([0.4, 0.5])[:, None, None], torch.tensor([0.2, 0.3])[:, None, None]
    torch.testing.assert_close(expected, (picture / 255 - mean) / std)
    torch.testing.assert_close(scaling(picture.to(torch.uint8)), expected)
    torch.testing.assert_close(scaling((picture * 257).to(torch.uint16)), expected)


def test_missing_pixels_stand_apart_even_where_they_are_nan():
    pixels = torch.tensor([[[[0.5, torch.nan]]]])
    scaled = PixelScaling([0.5], [0.1])(pixels, ~pixels.isnan())
    assert scaled.flatten().tolist() == [0.0, MISSING]


def test_bad_statistics_and_channels_are_refused():
    with pytest.raises(ShapeError, match=r"as many positive standard deviations, got \[0.5\] and \[0.0\]"):
        PixelScaling([0.5], [0.0])
    with pytest.raises(ShapeError, match="expected 1 channels, got 3"):
        PixelScaling([0.5], [0.1])(torch.zeros(1, 3, 2, 2))
