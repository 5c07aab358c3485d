"""Which bands of a file are channels, and what says where they hold something: what GDAL's own masks say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from xt.errors import ConfigError
from xt.images.gdal import open_for_pixels
from xt.images.image import check_nodata, fits
from xt.images.remote import gdal_path

Alpha = Literal["validity", "channel"]
ALPHAS: tuple[Alpha, ...] = get_args(Alpha)
ALPHA: Alpha = "validity"
Range = tuple[float, float]

# GDAL takes floats for equal that differ by less than twice this, relative to their sum, in 64 bits as in 32.
_EQUAL = 2 * float(np.finfo(np.float32).eps)
# VRT hides overviews of fewer pixels.
_LEAST_OVERVIEW = 128


@dataclass(frozen=True)
class Bands:
    """A file's bands as channels, and for each channel what says where it holds something.

    Attributes:
        channels: the numbers of the bands that are channels, from 1.
        alpha: the number of the alpha band if it is none.
        nodata: of each channel, the value that means nothing; None where the file's mask or alpha decides, or nothing.
        ranges: of each channel, the lowest and highest value that GDAL takes for this nodata value.
        masked: which channels, from 0, have a mask of GDAL's that is to be read.
        one_mask: whether that is the same for all of them.
        by_alpha: which channels, from 0, hold nothing where the alpha band is 0.
    """

    channels: tuple[int, ...]
    alpha: int | None
    nodata: tuple[float | None, ...]
    ranges: tuple[Range | None, ...]
    masked: tuple[int, ...]
    one_mask: bool
    by_alpha: tuple[int, ...]

    @property
    def hold_all(self) -> bool:
        """Whether nothing is missing anywhere."""
        return not self.masked and not self.by_alpha and self.ranges == (None,) * len(self.ranges)

    @property
    def miss_alike(self) -> bool:
        """Whether a pixel misses all of its channels or none, as one mask or alpha says for all."""
        every = tuple(range(len(self.channels)))
        rules = [self.masked == every and self.one_mask, self.by_alpha == every]
        return len(every) == 1 or (any(rules) and self.ranges == (None,) * len(every))

    @property
    def masks(self) -> list[int]:
        """Numbers of the bands whose masks are read: one, or one for each masked channel."""
        numbers = [self.channels[channel] for channel in self.masked]
        return numbers[:1] if self.one_mask else numbers

    def valid(
        self, pixels: np.ndarray, alpha: np.ndarray | None = None, masks: np.ndarray | None = None
    ) -> NDArray[np.bool_]:
        """Which values are data.

        Args:
            pixels: (h, w, channels).
            alpha: (h, w) of the alpha band, if channels go by it.
            masks: (h, w, N) of GDAL's masks of the bands `masks`.
        """
        valid = _outside(pixels, self.ranges)
        if alpha is not None:
            valid[..., list(self.by_alpha)] &= (alpha > 0)[..., np.newaxis]
        if masks is not None:
            valid[..., list(self.masked)] &= masks > 0
        return valid


def bands_of(dataset: Any, path: str, alpha: Alpha = ALPHA, nodata: float | None = None) -> Bands:
    """What a rasterio dataset says of its bands.

    Args:
        alpha: "validity": a band whose colour is alpha says where the others hold something. "channel": it is a channel
            as they are, which says nothing of them.
        nodata: instead of the file's own values.
    Raises:
        ConfigError: the pixel type cannot hold the nodata value, or `alpha` is neither.
    """
    if alpha not in ALPHAS:
        raise ConfigError(f'alpha is "validity" or "channel", not {alpha!r}')
    is_alpha = [colour.name == "alpha" for colour in _colours(dataset)]
    if alpha == "channel" or all(is_alpha):
        is_alpha = [False] * dataset.count
    channels = tuple(band for band, left_out in zip(dataset.indexes, is_alpha, strict=True) if not left_out)
    alphas = [band for band, left_out in zip(dataset.indexes, is_alpha, strict=True) if left_out]
    if nodata is not None:
        check_nodata(nodata, np.result_type(*(dataset.dtypes[band - 1] for band in channels)), path)
    values: list[float | None] = []
    masked, by_alpha = [], []
    for channel, band in enumerate(channels):
        said, dtype = {flag.name for flag in dataset.mask_flag_enums[band - 1]}, dataset.dtypes[band - 1]
        own = dataset.nodatavals[band - 1] if said == {"nodata"} else None
        if said == {"nodata"} and (own is None or not _compares(own, dtype)):
            own = None
            masked += [channel] if nodata is None else []
        elif "alpha" in said or said == {"all_valid"}:
            # GDAL itself takes alpha for a mask only where it is the second band of two or the fourth of four.
            by_alpha += [channel] if alphas else []
        elif said != {"nodata"} and (nodata is None or "nodata" not in said):
            masked.append(channel)
        values.append(own if nodata is None else nodata)
    return Bands(
        channels=channels,
        alpha=alphas[-1] if alphas else None,
        nodata=tuple(values),
        ranges=tuple(
            None if value is None else _equal_to(value, np.dtype(dataset.dtypes[band - 1]))
            for value, band in zip(values, channels, strict=True)
        ),
        masked=tuple(masked),
        one_mask=all(
            "per_dataset" in {flag.name for flag in dataset.mask_flag_enums[channels[channel] - 1]}
            for channel in masked
        ),
        by_alpha=tuple(by_alpha),
    )


def _colours(dataset: Any) -> Any:
    from rasterio._err import CPLE_BaseError

    try:
        return dataset.colorinterp
    except CPLE_BaseError:
        # To ask for them reads nothing, so this was an error of before, which rasterio has told now.
        return dataset.colorinterp


def mask_has_levels(dataset: Any, band: int, path: str, count: int) -> bool:
    """Whether the mask of a band has as many overviews as the image; if it was written after them, it has none."""
    # rasterio does not tell of a mask's overviews; those of a virtual dataset of it are the same. Enlarged, as VRT does
    # not tell of small ones.
    height, width = dataset.height, dataset.width
    description = (
        f'<VRTDataset rasterXSize="{width * _LEAST_OVERVIEW}" rasterYSize="{height * _LEAST_OVERVIEW}">'
        '<VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f'<SourceFilename relativeToVRT="0">{escape(gdal_path(path))}</SourceFilename>'
        f"<SourceBand>mask,{band}</SourceBand>"
        f'<SrcRect xOff="0" yOff="0" xSize="{width}" ySize="{height}"/>'
        f'<DstRect xOff="0" yOff="0" xSize="{width * _LEAST_OVERVIEW}" ySize="{height * _LEAST_OVERVIEW}"/>'
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )
    with open_for_pixels(description, name=path) as mask:
        return len(mask.overviews(1)) >= count


def _compares(nodata: float, dtype: str) -> bool:
    """Whether values can be compared with nodata as GDAL does; it would round others, or lose digits."""
    return fits(nodata, np.dtype(dtype)) and (math.isnan(nodata) or abs(nodata) < 2**53 or dtype[0] == "f")


def _outside(pixels: np.ndarray, ranges: Sequence[Range | None]) -> NDArray[np.bool_]:
    if all(given == ranges[0] or _are_nan(given, ranges[0]) for given in ranges):
        return _is_outside(pixels, ranges[0])
    return np.stack(
        [_is_outside(pixels[..., channel], given) for channel, given in enumerate(ranges)], axis=-1
    )


def _are_nan(one: Range | None, other: Range | None) -> bool:
    return one is not None and other is not None and math.isnan(one[0]) and math.isnan(other[0])


def _is_outside(pixels: np.ndarray, given: Range | None) -> NDArray[np.bool_]:
    if given is None:
        return np.ones(pixels.shape, np.bool_)
    low, high = given
    if math.isnan(low):
        return pixels == pixels
    if low == high:
        return pixels != low
    # Nodata mostly lies beyond all data, so that one look is enough. NaN is not nodata here.
    valid: NDArray[np.bool_] = pixels >= low if low > 0 else pixels <= high
    np.logical_not(valid, out=valid)
    if not valid.all():
        valid |= pixels > high if low > 0 else pixels < low
    return valid


def _equal_to(nodata: float, dtype: np.dtype[Any]) -> Range:
    """The lowest and highest value that GDAL takes for a nodata value."""
    if dtype.kind != "f" or not math.isfinite(nodata) or nodata == 0:
        # An integer, as pixels would be turned into floats to be compared with one.
        value = int(nodata) if math.isfinite(nodata) and nodata == int(nodata) else nodata
        return value, value
    precision = np.dtype(np.float64 if dtype.itemsize == 8 else np.float32).type
    with np.errstate(over="ignore"):
        largest = math.copysign(float(np.finfo(precision).max), nodata)
        value = precision(nodata) if np.isfinite(precision(nodata)) else precision(largest)
        beyond = precision(min(max(2 * float(value), -abs(largest)), abs(largest)))
        ends = [float(_last_equal(value, end)) for end in (precision(0), beyond)]
    return min(ends), max(ends)


def _last_equal(value: Any, end: Any) -> Any:
    """The number farthest from `value`, towards `end`, that GDAL takes for it, by bisection."""
    equal, other = value, end
    if _is_equal(value, end):
        return end
    while True:
        middle = equal + (other - equal) / 2
        if middle in (equal, other):
            return equal
        if _is_equal(value, middle):
            equal = middle
        else:
            other = middle


def _is_equal(one: Any, other: Any) -> bool:
    """As in GDAL's `ARE_REAL_EQUAL`, in the precision of its arguments."""
    return bool(one == other or abs(one - other) < type(one)(_EQUAL) * abs(one + other))
