"""The same scenes taken at several resolutions: what is seen is laid out in micrometres (or metres) and drawn at any
pixel size as a scanner would, as means over each pixel's area."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from tests.images.files import write_raster
from tests.training.dense_toy import CLASSES, COLOURS

# All is laid out on cells of a twentieth of a unit, so that pixels of many sizes hold whole cells.
CELL = 0.05
HEIGHT, WIDTH = 75.0, 84.0
SIDE = 12.0
_TEXTURE = 0.6


@dataclass(frozen=True)
class Scene:
    """Squares and discs on noise.

    Attributes:
        cells: (rows, columns) class of each cell; `texture` likewise, 0 to 1.
        centres: (y, x, name) of each object, in units.
    """

    cells: np.ndarray
    texture: np.ndarray
    centres: list[tuple[float, float, str]]

    def pixels(self, size: float) -> np.ndarray:
        """(h, w, 3) uint8 at this many units a pixel."""
        colours = np.array([(90, 90, 90), COLOURS["square"], COLOURS["disc"]], np.float32)
        drawn = colours[self.cells] * (0.8 + 0.4 * self.texture[..., None])
        step = round(size / CELL)
        rows, columns = self.cells.shape[0] // step, self.cells.shape[1] // step
        blocks = drawn[: rows * step, : columns * step].reshape(rows, step, columns, step, 3)
        return np.clip(np.rint(blocks.mean(axis=(1, 3))), 0, 255).astype(np.uint8)

    def mask(self, size: float) -> np.ndarray:
        """(h, w) uint8 class at the centre of each pixel."""
        step = round(size / CELL)
        rows, columns = self.cells.shape[0] // step, self.cells.shape[1] // step
        return self.cells[: rows * step, : columns * step][step // 2 :: step, step // 2 :: step]


def scene(seed: int, objects: int = 6) -> Scene:
    generator = np.random.default_rng(seed)
    rows, columns = round(HEIGHT / CELL), round(WIDTH / CELL)
    cells = np.zeros((rows, columns), np.uint8)
    grain = round(_TEXTURE / CELL)
    noise = generator.random((-(-rows // grain), -(-columns // grain)), dtype=np.float32)
    texture = noise.repeat(grain, axis=0).repeat(grain, axis=1)[:rows, :columns]
    side, room = round(SIDE / CELL), round((SIDE + 6) / CELL)
    y, x = np.mgrid[:side, :side]
    disc = (y - side / 2 + 0.5) ** 2 + (x - side / 2 + 0.5) ** 2 <= (side / 2) ** 2
    places = [(top, left) for top in range(0, rows - room, room) for left in range(0, columns - room, room)]
    centres = []
    for number, place in enumerate(generator.permutation(len(places))[:objects]):
        top, left = (edge + int(generator.integers(room - side)) for edge in places[int(place)])
        name = ("square", "disc")[number % 2]
        inside = disc if name == "disc" else np.ones_like(disc)
        cells[top : top + side, left : left + side][inside] = CLASSES.index(name)
        centres.append(((top + side / 2) * CELL, (left + side / 2) * CELL, name))
    return Scene(cells, texture, centres)


def write_slide(path: Path, seen: Scene, size: float, *, says: bool = True) -> Path:
    """A slide; `size` in micrometres."""
    resolution = {"resolution": (1e4 / size, 1e4 / size), "resolutionunit": "CENTIMETER"} if says else {}
    tifffile.imwrite(path, seen.pixels(size), tile=(64, 64), photometric="rgb", **resolution)
    return path


def write_map(path: Path, seen: Scene, size: float, crs: str = "EPSG:32632") -> Path:
    """A map with north at the top; `size` in its own units."""
    place = (size, 0.0, 500_000.0, 0.0, -size, 5_500_000.0)
    from rasterio.transform import Affine

    return write_raster(path, seen.pixels(size), crs=crs, transform=Affine(*place))


def write_labels(path: Path, seen: Scene, size: float) -> tuple[Path, Path]:
    """A mask of the file's pixels and points in them, beside an image."""
    mask, points = path.with_suffix(".mask.tif"), path.with_suffix(".csv")
    tifffile.imwrite(mask, seen.mask(size), tile=(64, 64))
    with points.open("w", newline="") as file:
        rows = [(y / size, x / size, name) for y, x, name in seen.centres]
        csv.writer(file, lineterminator="\n").writerows([("y", "x", "label"), *rows])
    return mask, points


def cohort(
    folder: Path, sizes: dict[str, float | list[float]], *, maps: bool = False, says: bool = True
) -> Path:
    """Images, masks, points and `table.csv`; of COCO's boxes `train.json`, `val.json` and `test.json`.

    Args:
        sizes: of the pixels of each split; images take turns.
        says: whether slides say their resolution.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["image,mask,points,split,size"]
    seed = 0
    for split, given in sizes.items():
        turns = given if isinstance(given, list) else [given]
        images, boxes = [], []
        for number in range(8 if split == "train" else 2):
            size, seen = turns[number % len(turns)], scene(seed)
            path = folder / f"{split}_{number}.tif"
            write_map(path, seen, size) if maps else write_slide(path, seen, size, says=says)
            mask, points = write_labels(path, seen, size)
            rows.append(f"{path.name},{mask.name},{points.name},{split},{size}")
            height, width = seen.mask(size).shape
            images.append({"id": number, "file_name": path.name, "height": height, "width": width})
            for y, x, name in seen.centres:
                edges = [(x - SIDE / 2) / size, (y - SIDE / 2) / size, SIDE / size, SIDE / size]
                boxes.append(
                    {"id": len(boxes), "image_id": number, "category_id": CLASSES.index(name), "bbox": edges}
                )
            seed += 1
        categories = [{"id": 1, "name": "square"}, {"id": 2, "name": "disc"}]
        content = {"images": images, "annotations": boxes, "categories": categories}
        (folder / f"{split}.json").write_text(json.dumps(content))
    (folder / "table.csv").write_text("\n".join(rows) + "\n")
    return folder / "table.csv"
