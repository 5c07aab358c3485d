"""`xt info PATH`: what an image is, and what it becomes: regions and tokens; what a model is, see `info_model`."""

import argparse
import math
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from xt.cli.info_model import description, description_of_exported, description_of_folds, file_of_model
from xt.cli.info_regions import model_of, open_for, regions_of
from xt.cli.parsers import a_number
from xt.errors import ConfigError
from xt.images.bands import ALPHA, ALPHAS
from xt.model.exported import is_exported

if TYPE_CHECKING:
    from xt.images import LargeImage

EXAMPLES = (
    "xt info slides/one.tif --region-size 512 --foreground tissue",
    "xt info slides/one.tif --model runs/first",
)
# Every supported region encoder's last feature map has one cell for 32 x 32 pixels.
_STRIDE = 32
_REGION_SIZE = 256
# What a model has its own of.
_OF_MODELS = ("region_size", "tokens_per_region", "foreground", "microns_per_pixel", "map_units_per_pixel")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "images",
        nargs="+",
        metavar="PATH",
        help='an image, or files of one stack: "VH.tif|VV.tif"; or a model: model.safetensors, a .ckpt, a run folder, '
        "hf://OWNER/NAME on the hub, or the folder of an exported model",
    )
    parser.add_argument(
        "--region-size",
        type=int,
        metavar="PIXELS",
        help=f"side of a region (default: {_REGION_SIZE})",
    )
    parser.add_argument(
        "--tokens-per-region", type=int, metavar="N",
        help="1, 4, 16, 64 ... (default: one for each 32 x 32 pixels, the region encoders' last feature map)",
    )  # fmt: skip
    parser.add_argument(
        "--foreground", metavar="KIND",
        help="count only regions that are looked at: tissue, nodata (those with data), or a mask image",
    )  # fmt: skip
    parser.add_argument("--nodata", type=float, metavar="VALUE", help="instead of the one in the file")
    parser.add_argument(
        "--alpha", choices=ALPHAS, default=ALPHA,
        help="what a band is that a file calls alpha: says what is missing (validity), or a channel like others",
    )  # fmt: skip
    parser.add_argument(
        "--microns-per-pixel", type=float, metavar="SIZE",
        help="count the regions of a model that reads slides at this resolution, as model.microns_per_pixel",
    )  # fmt: skip
    parser.add_argument(
        "--map-units-per-pixel",
        type=float,
        metavar="METRES",
        help="likewise of maps, as model.map_units_per_pixel",
    )
    parser.add_argument(
        "--model", metavar="RUN",
        help="count what this model looks at of each image: a run folder, a model.safetensors or a .ckpt",
    )  # fmt: skip
    parser.add_argument(
        "--budget", type=a_number, metavar="B", help="with --model: of regions, in place of its own, as of xt predict"
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    from xt.hub.place import local_path
    from xt.images import open_image
    from xt.images.resolution import Resolution
    from xt.training.fold_files import models_of

    resolution = Resolution(
        microns_per_pixel=arguments.microns_per_pixel, map_units_per_pixel=arguments.map_units_per_pixel
    )
    _check(arguments)
    trained = None if arguments.model is None else model_of(arguments.model)
    for number, path in enumerate(arguments.images):
        place = local_path(path)
        folds = models_of(place)
        if folds:
            _print(number, path, list(description_of_folds(place, folds)))
            continue
        if is_exported(place):
            _print(number, path, list(description_of_exported(place)))
            continue
        model = file_of_model(place)
        if model is not None:
            _print(number, path, list(description(model)))
            continue
        if trained is not None:
            with open_for(trained, path, arguments.nodata) as image:
                lines = [*_description(image), *regions_of(trained.model, image, arguments.budget)]
            _print(number, image.name, lines)
            continue
        with open_image(path, arguments.nodata, alpha=arguments.alpha) as image:
            lines = list(_description(image))
            read = resolution.as_read(image).image
            if read is not image:
                height, width = read.shape
                lines.append(("read as", f"{height:,} x {width:,} pixels by a model of that resolution"))
            lines += _regions(read, arguments)
        _print(number, image.name, lines)
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Refuse numbers that mean nothing, and what a model has its own of."""
    size, tokens = arguments.region_size, arguments.tokens_per_region
    if size is not None and size < 1:
        raise ConfigError(f"--region-size must be at least 1, got {size}")
    if tokens is not None and (tokens < 1 or math.isqrt(tokens) ** 2 != tokens):
        raise ConfigError(f"--tokens-per-region must be a square number (1, 4, 16 ...), got {tokens}")
    if arguments.budget is not None and arguments.model is None:
        raise ConfigError("--budget is one of a model that chooses regions: name it (--model RUN)")
    given = [f"--{name.replace('_', '-')}" for name in _OF_MODELS if getattr(arguments, name) is not None]
    if arguments.model is not None and given:
        raise ConfigError(f"a model has its own {', '.join(given)}: leave that out beside --model")


def _print(number: int, title: str, lines: Sequence[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in lines)
    print("\n" * (number > 0) + title)
    for name, value in lines:
        print(f"  {name:<{width}}  {value}")


def _description(image: "LargeImage") -> Iterator[tuple[str, str]]:
    height, width = image.shape
    raw = height * width * image.channels * image.dtype.itemsize
    yield "size", f"{height:,} x {width:,} pixels (height x width), {height * width / 1e6:,.1f} megapixels"
    yield "channels", f"{image.channels} of {image.dtype}, {_bytes(raw)} uncompressed"
    if image.channel_names is not None:
        yield "channel names", _names(image.channel_names)
    yield "stored as", "; ".join(", ".join(_storage(part)) for part in getattr(image, "layers", (image,)))
    for number, (shape, factor) in enumerate(zip(image.level_shapes, image.levels, strict=True)):
        yield f"level {number}", f"{shape[0]:,} x {shape[1]:,}, 1 : {factor:g}"
    if image.orientation != 1:
        yield "orientation", f"{image.orientation} in the file: turned to be upright"
    if image.microns_per_pixel is not None:
        y, x = image.microns_per_pixel
        yield "microns per pixel", f"{y:.4g}" if abs(y - x) < 1e-6 * x else f"{y:.4g} x {x:.4g} (y, x)"
    if image.crs is not None:
        yield "crs", image.crs if len(image.crs) <= 80 else f"{image.crs[:77]}..."
    if image.transform is not None:
        yield "transform", _formula(image.transform)
    if image.control is not None:
        yield "located by", str(image.control)
    if image.nodata is not None:
        yield "nodata", f"{image.nodata:g}"
    elif any(value is not None for value in image.nodata_values):
        values = tuple("none" if value is None else f"{value:g}" for value in image.nodata_values)
        yield "nodata", _names(values) + ", by channel"
    if image.alpha_bands:
        yield "alpha", "says what is missing; --alpha channel makes it a channel"
    elif image.has_nodata and set(image.nodata_values) == {None}:
        yield "missing", "what a mask says"


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(names[:12]) + (f", ... ({len(names)})" if len(names) > 12 else "")


def _formula(transform: tuple[float, ...]) -> str:
    a, b, c, d, e, f = (f"{number:.9g}" for number in transform)
    if transform[1] == transform[3] == 0:
        formula = f"x_map = {c} + {a} x, y_map = {f} + {e} y"
    else:
        formula = f"x_map = {c} + {a} x + {b} y, y_map = {f} + {d} x + {e} y"
    return formula.replace("+ -", "- ")


def _storage(image: "LargeImage") -> Iterator[str]:
    """What is known without reading pixels; sources that know less say less."""
    driver = getattr(image, "driver", None)
    kinds = {
        "SlideImage": "slide (OpenSlide)",
        "WarpedImage": "file aligned to the reference",
        "Resampled": "resampled",
    }
    yield str(driver) if driver else kinds.get(type(image).__name__, "array")
    storage = getattr(image, "storage", None)
    if storage is not None:
        height, width = storage.block
        if storage.sequential:
            yield "one compressed stream"
        elif width >= image.shape[1] and height < image.shape[0]:
            yield f"strips of {height} row{'s' if height > 1 else ''}"
        else:
            yield f"tiles of {height} x {width}"
    if os.path.isfile(image.name):
        yield f"{_bytes(os.path.getsize(image.name))} on disk"
    if storage is not None and storage.slow:
        yield "slow to read by window: convert it with xt tile"


def _regions(image: "LargeImage", arguments: argparse.Namespace) -> Iterator[tuple[str, str]]:
    from xt.regions.grid import RegionGrid

    size = arguments.region_size or _REGION_SIZE
    tokens = arguments.tokens_per_region or max(1, size // _STRIDE) ** 2
    grid = RegionGrid.from_image(image, size)
    everything = len(grid)
    shape = f"{grid.rows} x {grid.columns} of {size} x {size} pixels"
    if arguments.foreground is None:
        yield "regions", f"{everything:,} ({shape})"
    else:
        from xt.images.foreground import foreground_mask

        grid = RegionGrid.from_image(image, size, foreground=foreground_mask(image, arguments.foreground))
        share = len(grid) / everything
        wanted = {"nodata": "with data", "tissue": "with tissue"}.get(
            arguments.foreground, f"in {arguments.foreground}"
        )
        yield "regions", f"{len(grid):,} of {everything:,} ({shape}), {share:.1%} {wanted}"
    yield "tokens", f"{len(grid) * tokens:,} ({tokens} a region)"


def _bytes(number: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:,.3g} TB"
