"""Nuclei in one mosaic: trained by `xt train`, predicted by `xt predict`, measured on the file that was written.

    python benchmarks/nuclei.py --data FOLDER --work FOLDER

The data are 240 microscopy images with their nuclei (2018 Data Science Bowl, CC0): a folder with images/, masks/
(16-bit numbers of nuclei, 0 for none) and index.csv. They are stitched into one TIFF of 8,192 x 8,192 pixels, repeated
and mirrored until it is full, each stretched to the same range of brightness, as is usual for pictures of several
microscopes (from its 1st to its 99.8th percentile; no label has a part in it). The mosaic's right quarter is held out:
it is made of a quarter of the images, of every size and kind, none of which occurs in the rest. The training image and
the held-out image are windows of that file (VRT).
"""

import argparse
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rasterio
import rasterio.errors
import yaml
from common import RESULTS, peak_bytes, print_table, write_results
from PIL import Image

SIDE = 8192
HELD_OUT = 2048
CLASSES = ("background", "nucleus")
EVERY = 4
Picture = tuple[np.ndarray, np.ndarray]
"""(height, width, 3) pixels and (height, width) classes."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with images/, masks/ and index.csv")
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for the mosaic, the run and the prediction"
    )
    parser.add_argument("--context", default="none", help="context encoder (default: none)")
    parser.add_argument("--seconds", type=float, default=330, help="of training (default: 330)")
    arguments = parser.parse_args()
    if not (arguments.data / "index.csv").is_file():
        print(f"nuclei: skipped, {arguments.data} holds no index.csv with images/ and masks/ beside it")
        return 0
    arguments.work.mkdir(parents=True, exist_ok=True)
    table = make_mosaic(arguments.data, arguments.work)
    run, metrics = train(table, arguments.work, arguments.context, arguments.seconds)
    mask = predict(run, arguments.work)
    row = {"context": arguments.context, **measure(mask, arguments.work), **metrics}
    print_table([row])
    picture = RESULTS / "nuclei.png"
    draw(mask, arguments.work, picture)
    print(
        f"wrote {write_results('nuclei', [row], mosaic=[SIDE, SIDE], held_out=[SIDE, HELD_OUT])} and {picture}"
    )
    return 0


def make_mosaic(data: Path, work: Path) -> Path:
    """The mosaic with its mask, their two parts, and the table for `xt train`."""
    train_ids, held_out_ids = divide(data)
    assert not set(train_ids) & set(held_out_ids)
    parts = [
        fill([read(data, name) for name in ids], width, seed)
        for seed, (ids, width) in enumerate([(train_ids, SIDE - HELD_OUT), (held_out_ids, HELD_OUT)])
    ]
    pixels, classes = (np.concatenate([part[kind] for part in parts], axis=1) for kind in (0, 1))
    write(work / "mosaic.tif", pixels)
    write(work / "mosaic_mask.tif", classes[..., None])
    rows = ["image,mask,split"]
    for split, left, width in (("train", 0, SIDE - HELD_OUT), ("test", SIDE - HELD_OUT, HELD_OUT)):
        for name, bands in (("mosaic", 3), ("mosaic_mask", 1)):
            (work / f"{name}_{split}.vrt").write_text(window_of(f"{name}.tif", left, width, bands))
        rows.append(f"mosaic_{split}.vrt,mosaic_mask_{split}.vrt,{split}")
    (work / "table.csv").write_text("\n".join(rows) + "\n")
    print(
        f"mosaic of {SIDE} x {SIDE}: {len(train_ids)} images in the training part, {len(held_out_ids)} held out"
    )
    return work / "table.csv"


def divide(data: Path) -> tuple[list[str], list[str]]:
    """Names of the training images and of those held out: every fourth of each size and kind, but at least one."""
    index = pd.read_csv(data / "index.csv", dtype={"id": str})
    index["name"] = index["id"].str[:16]
    index["kind"] = [
        kind(np.asarray(Image.open(data / "images" / f"{name}.png").convert("RGB"))) for name in index["name"]
    ]
    held_out: list[str] = []
    for _, group in index.groupby(["height", "width", "kind"]):
        names = sorted(group["name"])
        held_out += names[1::EVERY]
    return sorted(set(index["name"]) - set(held_out)), held_out


def kind(pixels: np.ndarray) -> str:
    """Fluorescence is dark and grey; stained tissue is bright."""
    return "bright" if pixels.mean() > 110 else "dark"


def read(data: Path, name: str) -> Picture:
    pixels = np.asarray(Image.open(data / "images" / f"{name}.png").convert("RGB"))
    nuclei = np.asarray(Image.open(data / "masks" / f"{name}.png"))
    low, high = np.percentile(pixels, (1, 99.8))
    stretched = (pixels - low) * (255 / max(high - low, 1))
    return stretched.clip(0, 255).round().astype(np.uint8), (nuclei > 0).astype(np.uint8)


def fill(pictures: list[Picture], width: int, seed: int) -> Picture:
    """Rows of pictures of one height each, mirrored by chance, until a part of the mosaic is full.

    The next row is of the height that has so far the least of its share, so that each has the share of the mosaic that
    it has of the pictures.
    """
    generator = np.random.default_rng(seed)
    by_height: dict[int, list[Picture]] = {}
    for picture in pictures:
        by_height.setdefault(len(picture[0]), []).append(picture)
    area = {height: sum(part[1].size for part in some) for height, some in by_height.items()}
    placed = dict.fromkeys(by_height, 0.0)
    taken = dict.fromkeys(by_height, 0)
    pixels = np.zeros((SIDE, width, 3), np.uint8)
    classes = np.zeros((SIDE, width), np.uint8)
    y = 0
    while y < SIDE:
        height = min(by_height, key=lambda height: placed[height] / area[height])
        rows, x = min(height, SIDE - y), 0
        while x < width:
            some = by_height[height]
            picture = some[taken[height] % len(some)]
            taken[height] += 1
            flip = tuple(slice(None, None, int(step)) for step in generator.choice([1, -1], 2))
            columns = min(picture[1].shape[1], width - x)
            pixels[y : y + rows, x : x + columns] = picture[0][flip][:rows, :columns]
            classes[y : y + rows, x : x + columns] = picture[1][flip][:rows, :columns]
            x += columns
        placed[height] += rows * width
        y += rows
    return pixels, classes


def write(path: Path, pixels: np.ndarray) -> None:
    height, width, bands = pixels.shape
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "height": height,
        "width": width,
        "count": bands,
        "dtype": "uint8",
    }
    options = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "predictor": 2}
    with warnings.catch_warnings():
        # A mosaic of microscopy lies on no map.
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path, "w", **profile, **options) as file:
            file.write(pixels.transpose(2, 0, 1))


def window_of(name: str, left: int, width: int, bands: int) -> str:
    """Some columns of a file as GDAL's virtual dataset."""
    size = f'xSize="{width}" ySize="{SIDE}"'
    parts = [
        f'<VRTRasterBand dataType="Byte" band="{band}"><SimpleSource><SourceFilename relativeToVRT="1">{name}'
        f'</SourceFilename><SourceBand>{band}</SourceBand><SrcRect xOff="{left}" yOff="0" {size}/>'
        f'<DstRect xOff="0" yOff="0" {size}/></SimpleSource></VRTRasterBand>'
        for band in range(1, bands + 1)
    ]
    return f'<VRTDataset rasterXSize="{width}" rasterYSize="{SIDE}">{"".join(parts)}</VRTDataset>\n'


def configuration(table: Path, work: Path, context: str, seconds: float) -> dict[str, Any]:
    # Without layer scale, whose blocks say next to nothing in the first thousands of steps.
    encoder = {"depths": [1, 1, 2, 1], "dims": [32, 48, 96, 160], "ls_init_value": None}
    model = {
        "encoder": "convnext_atto", "encoder_options": encoder, "region_size": 512, "halo": 32, "tokens_per_region": 16,
        "context": context, "dim": 64, "head": "segmentation", "head_options": {"width": 48},
    }  # fmt: skip
    changes = {"train_size": 512, "label_centred": 0.3, "windows": 64, "brightness": 0.2, "contrast": 0.2}
    return {
        "model": model,
        "data": {"table": str(table), "augmentation": changes},
        "labels": {"class_names": list(CLASSES)},
        "optim": {"lr": 2e-3, "layer_decay": 1.0, "warmup": 0.05},
        "train": {
            "out": str(work / "run"), "epochs": 1_000, "max_seconds": seconds, "batch_size": 1, "accelerator": "cpu",
            "region_batch": 1, "keep": "auto", "resume": "auto",
        },
    }  # fmt: skip


def train(table: Path, work: Path, context: str, seconds: float) -> tuple[Path, dict[str, Any]]:
    """The run folder, and what `xt train` says of it."""
    from xt.cli.main import main as xt

    path = work / "nuclei.yaml"
    path.write_text(yaml.safe_dump(configuration(table, work, context, seconds), sort_keys=False))
    started = time.process_time()
    if xt(["train", str(path)]) != 0:
        raise SystemExit(1)
    metrics = json.loads((work / "run" / "metrics.json").read_text())
    return work / "run", {
        "dice_of_xt_train": metrics["test"]["dice(nucleus)"],
        "training_s": round(metrics["training_seconds"]),
        "cpu_s_with_test": round(time.process_time() - started),
        "steps": metrics["steps"],
        "peak_gib": round(peak_bytes() / 2**30, 2),
    }


def predict(run: Path, work: Path) -> Path:
    from xt.cli.main import main as xt

    if (
        xt(
            [
                "predict",
                str(run),
                str(work / "mosaic_test.vrt"),
                "--out",
                str(work / "found"),
                "--device",
                "cpu",
            ]
        )
        != 0
    ):
        raise SystemExit(1)
    return work / "found" / "mosaic_test.mask.tif"


def measure(mask: Path, work: Path) -> dict[str, Any]:
    """From the written file, with rasterio and NumPy alone."""
    with rasterio.open(mask) as file, rasterio.open(work / "mosaic_mask_test.vrt") as truth:
        found, true = file.read(1) == 1, truth.read(1) == 1
    both = int((found & true).sum())
    union = int((found | true).sum())
    return {"dice": 2 * both / (int(found.sum()) + int(true.sum())), "iou": both / union}


def draw(mask: Path, work: Path, path: Path) -> None:
    """Two places of the held-out part: pixels; right in green, missed in red, in vain in blue."""
    with (
        rasterio.open(mask) as file,
        rasterio.open(work / "mosaic_mask_test.vrt") as truth,
        rasterio.open(work / "mosaic_test.vrt") as image,
    ):
        found, true, pixels = file.read(1) == 1, truth.read(1) == 1, image.read().transpose(1, 2, 0)
    # Both kinds of image: the brightest and the darkest place that has nuclei.
    size = 512
    places = [(y, x) for y in range(0, SIDE - size + 1, size) for x in range(0, HELD_OUT - size + 1, size)]
    places = [(y, x) for y, x in places if true[y : y + size, x : x + size].mean() > 0.08]
    places.sort(
        key=lambda place: float(pixels[place[0] : place[0] + size, place[1] : place[1] + size].mean())
    )
    rows = []
    for y, x in (places[len(places) // 3], places[-1]):
        part = np.s_[y : y + size, x : x + size]
        colours = np.zeros((size, size, 3), np.uint8)
        colours[true[part] & found[part]] = (60, 180, 75)
        colours[true[part] & ~found[part]] = (230, 60, 60)
        colours[~true[part] & found[part]] = (70, 110, 240)
        rows.append(np.concatenate([pixels[part], colours], axis=1))
    Image.fromarray(np.concatenate(rows)).resize((768, 768), Image.Resampling.LANCZOS).quantize(128).save(
        path
    )


if __name__ == "__main__":
    sys.exit(main())
