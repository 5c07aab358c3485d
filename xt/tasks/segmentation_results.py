"""A class for every pixel: stored as 8 bits a pixel, written as mask, probabilities and outlines."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xt.errors import ConfigError
from xt.images import open_image
from xt.images.array import ArrayImage
from xt.images.thumbnail import thumbnail
from xt.labels.formats.polygon_files import PolygonFiles
from xt.labels.image_table import class_indices
from xt.output import remove_leftovers_of
from xt.regions.choice import AllRegions
from xt.regions.grid import Region
from xt.regions.scattered import PixelRegions
from xt.results.colours import Colour, class_colours
from xt.results.decoded_image import DecodedImage
from xt.results.dense_overlay import write_mask_overlay
from xt.results.dense_writers import check_outlined, write_mask, write_outlines, write_probabilities
from xt.results.kept_pixels import CERTAIN, NOTHING, KeptPixels
from xt.results.label_image import write_label_image
from xt.results.on_data import has_data, is_known
from xt.results.region_store import RegionStore
from xt.results.shown import Shown, ShownObjects, ShownRaster, shown_polygons
from xt.tasks.place_results import DenseOptions, DenseResult, PlaceResults, in_every_form

if TYPE_CHECKING:
    from xt.images import LargeImage
    from xt.images.resolution import AsRead
    from xt.model.xt import XT

# NumPy counts 8-bit numbers as 64-bit ones.
_COUNTED_PIXELS = 1 << 20
# Class 0, by habit the background, is black, which on an image is no colour.
_FIRST_CLASS = (160, 160, 160)


class SegmentationResults(PlaceResults):
    """The store has for each region its pixels, see `KeptPixels`."""

    unit = "pixels"
    background = 0
    endings: ClassVar[Mapping[str, str]] = {
        "mask": ".mask.tif",
        "probabilities": ".probabilities.tif",
        **in_every_form("outlines"),
        "labels": ".ome.zarr",
    }

    def __init__(self, model: "XT", options: DenseOptions) -> None:
        super().__init__(model, options)
        if model.config.num_classes > NOTHING:
            raise ConfigError(
                f"masks have 8 bits, for {NOTHING} classes and one number for nothing; this model has "
                f"{model.config.num_classes} classes"
            )
        check_outlined(options.outlines, self.class_names)
        self.kept = KeptPixels(model.config.num_classes, self.region_size, options.probabilities)

    @property
    def choice(self) -> Any:
        # What has coarse regions kept less of them before they were enlarged.
        is_all = type(self.model.reading.choice) is AllRegions
        return self.kept.num_bands if is_all else [self.kept.num_bands, self.kept.num_classes]

    def bytes_of_regions(self, scales: NDArray[np.int64]) -> int:
        return int(self.kept.bytes_of(scales).sum())

    def stored(
        self, predictions: Tensor, regions: Sequence[Region], image: "LargeImage"
    ) -> NDArray[np.uint8]:
        """(bytes,): each region's, see `KeptPixels`; `dense_writers` says what the numbers mean."""
        bands = [predictions.argmax(dim=1, keepdim=True).to(torch.uint8)]
        if self.chosen.probabilities:
            bands.append((predictions.float() * CERTAIN).round().to(torch.uint8))
        pixels: NDArray[np.uint8] = torch.cat(bands, dim=1).cpu().numpy()
        parts = []
        for fine, found, region in zip(pixels, predictions, regions, strict=True):
            if region.height > self.region_size:
                known = is_known(image, region, self.region_size)
                parts.append(self.kept.of_coarse(found.float().cpu().numpy(), known))
                continue
            if image.has_nodata:
                fine[:, ~has_data(image, region, self.region_size)] = NOTHING
            parts.append(fine.reshape(-1))
        return np.concatenate(parts)

    def write(
        self,
        store: RegionStore,
        grid: PixelRegions,
        read: "AsRead",
        destination: Path,
        tags: Mapping[str, str],
        progress: Callable[[float], object] | None = None,
    ) -> DenseResult:
        names, options = self.class_names, self.chosen
        decoded = DecodedImage(store, grid, read.image, kept=self.kept, bands=range(1))
        mask = read.map_found(decoded, "nearest")
        files = {"mask": self.file(destination, "mask")}
        # Each band takes about as long as another.
        write_mask(mask, files["mask"], names, tags, _part(progress, 0, 1 / self.kept.num_bands))
        if options.probabilities:
            others = range(1, self.kept.num_bands)
            decoded = DecodedImage(store, grid, read.image, kept=self.kept, bands=others)
            bands = read.map_found(decoded, "bilinear")
            files["probabilities"] = self.file(destination, "probabilities")
            part = _part(progress, 1 / self.kept.num_bands, 1)
            write_probabilities(bands, files["probabilities"], names, tags, part)
        if options.outlines:
            files["outlines"] = self.file(destination, "outlines")
            further = self.further(destination, "outlines")
            write_outlines(
                mask, files["outlines"], names, options.outlines, options.least_area, list(further.values())
            )
            files |= further
        if "ome-zarr" in options.also:
            files["labels"] = self.file(destination, "labels")
            write_label_image(files["mask"], files["labels"], names)
        return self.result(read.file, files, _count_pixels(mask, len(names)))

    def shown_so_far(
        self, stored: Sequence[NDArray[Any]], regions: Sequence[Region], read: "AsRead"
    ) -> "list[Shown]":
        height, width = read.image.shape
        pixels = np.full((height, width), NOTHING, np.uint8)
        every = np.concatenate([np.empty(0, np.uint8), *stored])
        first = 0
        for region in regions:
            place = np.s_[region.y : region.y + region.height, region.x : region.x + region.width]
            rows, columns = (slice(0, side) for side in pixels[place].shape)
            scale = region.height // self.region_size
            (pixels[place],) = self.kept.read(
                lambda start, count: every[start : start + count].tobytes(),
                first,
                scale,
                rows,
                columns,
                range(1),
            )
            first += self.bytes_of_regions(np.array([scale]))
        mask = read.map_found(ArrayImage(pixels, nodata=NOTHING, name="mask"), "nearest")
        return [_shown_mask(mask, self.class_names)]

    @classmethod
    def draw(cls, result: DenseResult, image: "LargeImage", destination: Path, title: str) -> None:
        with open_image(result.files["mask"]) as mask:
            write_mask_overlay(
                mask,
                thumbnail(image),
                destination,
                list(result.counts),
                result.counts,
                title=title,
                microns_per_pixel=image.microns_per_pixel[1] if image.microns_per_pixel else None,
                regions=result.looked,
            )

    @classmethod
    def shown(
        cls, files: Mapping[str, Path], image: "LargeImage", class_names: Sequence[str]
    ) -> "list[Shown]":
        names, colours = tuple(class_names), tuple(class_colours(len(class_names)))
        layers: list[Shown] = []
        if "mask" in files:
            layers.append(_shown_mask(open_image(files["mask"]), names))
        if "probabilities" in files:
            bands = open_image(files["probabilities"])
            layers += [
                ShownRaster(
                    name=f"probability-{number}", title=f"probability of {name}", class_names=(name,),
                    colours=(colours[number] if number else _FIRST_CLASS,), raster=bands, meaning="share",
                    band=number, full=CERTAIN,
                )
                for number, name in enumerate(names)
            ]  # fmt: skip
        if "outlines" in files:
            layers.append(_shown_outlines(files["outlines"], image, names, colours))
        return layers

    @classmethod
    def remove_leftovers(cls, destination: Path) -> None:
        super().remove_leftovers(destination)
        remove_leftovers_of(f"{cls.file(destination, 'mask')}.aux.xml")


def _part(
    progress: Callable[[float], object] | None, start: float, stop: float
) -> Callable[[float], object] | None:
    return None if progress is None else lambda done: progress(start + (stop - start) * done)


def _count_pixels(mask: "LargeImage", num_classes: int) -> NDArray[np.int64]:
    """How many pixels each class has."""
    height, width = mask.shape
    counts = np.zeros(NOTHING + 1, dtype=np.int64)
    step = max(1, _COUNTED_PIXELS // width)
    for y in range(0, height, step):
        pixels = mask.read(y, 0, min(step, height - y), width)
        counts += np.bincount(pixels.ravel(), minlength=len(counts))
    return counts[:num_classes]


def _shown_mask(mask: "LargeImage", names: Sequence[str]) -> ShownRaster:
    """Class 0 is left clear, so that the image is seen."""
    return ShownRaster(
        name="mask",
        title="mask",
        class_names=tuple(names),
        colours=tuple(class_colours(len(names))),
        raster=mask,
        meaning="classes",
        clear=SegmentationResults.background,
    )


def _shown_outlines(
    path: Path, image: "LargeImage", names: Sequence[str], colours: Sequence[Colour]
) -> ShownObjects:
    file = PolygonFiles().read(path, None)
    polygons, rows = file.on(image)
    return shown_polygons(
        polygons,
        class_indices(file.classes[rows].tolist(), names, str(path)),
        "outlines",
        "outlines",
        names,
        colours,
    )
