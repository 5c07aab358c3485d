"""Blood cells: trained by `xt train` from scratch on the CPU, measured by pycocotools on single images and on one of
10,240 x 12,096 pixels.

    python benchmarks/bccd.py --data FOLDER --work FOLDER

The data are 364 microscopy images of 640 x 480 pixels with boxes around red cells, white cells and platelets (BCCD,
MIT): a folder with Annotations/, JPEGImages/ and ImageSets/Main/, whose own lists divide them. `xt convert-labels`
makes COCO's JSON of them. The test images, each five times in shuffled order, are tiled into one TIFF, with their
boxes and strips of nothing between them.
"""

import argparse
import io
import json
import sys
import time
import warnings
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.errors
import torch
import yaml
from common import RESULTS, in_fresh_process, peak_bytes, print_table, write_results
from PIL import Image, ImageDraw
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from xt.cli.main import main as xt
from xt.heads import BoxTable
from xt.images import open_image
from xt.labels.formats.coco import read_instances
from xt.labels.formats.coco_entries import CocoImage
from xt.labels.formats.coco_writing import write_instances
from xt.labels.merge_boxes import boxes_of_image
from xt.training.checkpoints import load_trained

HEIGHT, WIDTH = 480, 640
ROWS, COLUMNS = 20, 18
# Nothing, as between the fields that a microscope has visited: cells cut by a field's border do not grow together.
GAP = 32
SHAPE = (ROWS * (HEIGHT + GAP), COLUMNS * (WIDTH + GAP))
SIDES = (2560, 5120, 10240)
# Of what is measured.
LEAST_SCORE = 0.25
COLOURS = {"Platelets": (250, 200, 30), "RBC": (40, 110, 240), "WBC": (20, 160, 60)}
PARTS = ("train", "val", "test")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder with Annotations/, JPEGImages/ and ImageSets/")
    parser.add_argument("--work", type=Path, help="folder for labels, run, mosaic and results")
    parser.add_argument("--seconds", type=float, default=1400, help="of training (default: 1400)")
    parser.add_argument("--point", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    # Cells lie on no map.
    warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
    if arguments.point is not None:
        print(json.dumps(measure_memory(**json.loads(arguments.point))))
        return 0
    if arguments.data is None or not (arguments.data / "ImageSets").is_dir():
        print(
            f"bccd: skipped, {arguments.data} holds no ImageSets/ with Annotations/ and JPEGImages/ beside it"
        )
        return 0
    data, work = arguments.data, arguments.work
    work.mkdir(parents=True, exist_ok=True)
    convert(data, work)
    trained = train(data, work, arguments.seconds)
    run = for_scenes(work)
    single = evaluate(run, work / "test.json", data / "JPEGImages", work / "single", 100)
    by_hand = with_pycocotools(work / "test.json", work / "single" / "detections.json")
    make_mosaic(data, work)
    one = evaluate(run, work / "mosaic.json", work, work / "one", 100 * ROWS * COLUMNS)
    rows = [
        {"image": name, **{key: numbers[key] for key in ("ap", "ap50", "ap75", *classes_of(numbers))}}
        for name, numbers in (("72 of 640 x 480", single), ("one of 10,240 x 12,096", one))
    ]
    print_table(rows)
    memory = [
        in_fresh_process(__file__, run=str(run), image=str(work / "mosaic.tif"), side=side) for side in SIDES
    ]
    print_table(memory)
    picture = RESULTS / "bccd.png"
    draw(work, picture)
    path = write_results(
        "bccd",
        rows,
        by_hand=by_hand,
        training=trained,
        least_score=LEAST_SCORE,
        memory=memory,
        apart=abs(single["ap"] - one["ap"]),
    )
    print(f"pycocotools by hand: {by_hand}; wrote {path} and {picture}")
    return 0


def convert(data: Path, work: Path) -> None:
    for part in PARTS:
        call("convert-labels", data / "Annotations", work / f"{part}.json", "--images", data / "JPEGImages",
             "--list", data / "ImageSets" / "Main" / f"{part}.txt")  # fmt: skip


def configuration(data: Path, work: Path, seconds: float) -> dict[str, Any]:
    # Cells are large: patches of 8 pixels. No layer scale, whose blocks say next to nothing in the first thousands of
    # steps. Windows of several regions, so that cells cut by a region's border are learned, too.
    encoder = {"patch_size": 8, "depths": [1, 1, 2, 1], "dims": [48, 64, 96, 160], "ls_init_value": None}
    changes = {"train_size": 512, "windows": 4, "label_centred": 0.5, "brightness": 0.1, "contrast": 0.1}
    return {
        "model": {
            "encoder": "convnext_atto", "encoder_options": encoder, "region_size": 256, "halo": 32,
            "tokens_per_region": 4, "context": "none", "dim": 64, "head": "detection",
            "head_options": {"width": 64, "finest_stride": 16},
        },
        "data": {
            "coco": [str(work / f"{part}.json") for part in PARTS], "images": [str(data / "JPEGImages")],
            "augmentation": changes,
        },
        "optim": {"lr": 2e-3, "layer_decay": 1.0, "warmup": 0.05},
        "train": {
            "out": str(work / "run"), "epochs": 1_000, "max_seconds": seconds, "batch_size": 2, "accelerator": "cpu",
            "region_batch": 4, "keep": "all", "resume": "auto", "progress": False,
        },
    }  # fmt: skip


def train(data: Path, work: Path, seconds: float) -> dict[str, Any]:
    """What it took, and the result that `xt train` tells; a run that is there already is not made again."""
    path, told = work / "bccd.yaml", work / "training.json"
    if told.exists():
        return json.loads(told.read_text())
    path.write_text(yaml.safe_dump(configuration(data, work, seconds), sort_keys=False))
    started, cpu = time.monotonic(), time.process_time()
    call("train", path)
    metrics = json.loads((work / "run" / "metrics.json").read_text())
    trained = {
        "training_s": round(metrics["training_seconds"]),
        "wall_s_with_validation_and_test": round(time.monotonic() - started),
        "cpu_s_with_validation_and_test": round(time.process_time() - cpu),
        "steps": metrics["steps"],
        "peak_gib": round(peak_bytes() / 2**30, 2),
        "ap50_of_xt_train": metrics["test"]["ap50"],
    }
    told.write_text(json.dumps(trained))
    return trained


def for_scenes(work: Path) -> Path:
    """The trained model, which no longer tells of boxes that are hardly likely: a scene has very many of them."""
    model, _ = load_trained(work / "run")
    options = {**model.config.head_options, "score_threshold": LEAST_SCORE}
    model.config = replace(model.config, head_options=options)
    model.save(work / "cells.safetensors")
    return work / "cells.safetensors"


def evaluate(run: Path, truth: Path, images: Path, out: Path, cap: int) -> dict[str, float]:
    call(
        "evaluate",
        run,
        truth,
        "--root",
        images,
        "--out",
        out,
        "--device",
        "cpu",
        "--max-detections",
        1,
        10,
        cap,
    )
    return json.loads((out / "metrics.json").read_text())


def with_pycocotools(truth: Path, found: Path) -> dict[str, float]:
    """From the written files, as pycocotools' own example does it."""
    with redirect_stdout(io.StringIO()):
        labels = COCO(str(truth))
        evaluation = COCOeval(labels, labels.loadRes(str(found)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(("ap", "ap50", "ap75"), map(float, evaluation.stats), strict=False))


def classes_of(numbers: dict[str, float]) -> list[str]:
    return [name for name in numbers if name.startswith("ap(")]


def make_mosaic(data: Path, work: Path) -> None:
    """The test images in one file, with strips of nothing between them, and the boxes of all."""
    test = read_instances(work / "test.json")
    copies = ROWS * COLUMNS // len(test.images)
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(len(test.images)), copies))
    profile = {
        "driver": "GTiff", "height": SHAPE[0], "width": SHAPE[1], "count": 3, "dtype": "uint8", "nodata": 0,
        "tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", "zlevel": 1, "predictor": 2,
    }  # fmt: skip
    tables = []
    with rasterio.open(work / "mosaic.tif", "w", **profile) as file:
        for row in range(ROWS):
            y = row * (HEIGHT + GAP)
            band = np.zeros((3, HEIGHT + GAP, SHAPE[1]), np.uint8)
            for column in range(COLUMNS):
                x = column * (WIDTH + GAP)
                number = int(order[row * COLUMNS + column])
                path = data / "JPEGImages" / test.images[number].file_name
                pixels = np.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1)
                band[:, :HEIGHT, x : x + WIDTH] = np.maximum(pixels, 1)
                tables.append(test.boxes[number].shifted(y, x))
            file.write(band, window=((y, y + HEIGHT + GAP), (0, SHAPE[1])))
    image = CocoImage(1, "mosaic.tif", SHAPE)
    boxes = BoxTable.concatenate(tables)
    write_instances(work / "mosaic.json", [image], [boxes], test.class_names, test.category_ids)
    print(f"mosaic of {SHAPE[0]} x {SHAPE[1]} with {len(boxes)} cells, {copies} times each test image")


def measure_memory(run: str, image: str, side: int) -> dict[str, Any]:
    """Peak memory of finding all boxes in a square of the mosaic, in a process of its own."""
    model, _ = load_trained(run)
    model.eval()
    started = time.monotonic()
    with open_image(image) as whole:
        part = whole.crop(0, 0, side, side)
        tables = [table for decoded in model.decode(part) for table in decoded.predictions]
    found = boxes_of_image(tables, side, side, model.head.iou_threshold)
    seconds = time.monotonic() - started
    return {
        "side": side,
        "boxes": len(found),
        "peak_mib": round(peak_bytes() / 2**20),
        "seconds": round(seconds, 1),
    }


def draw(work: Path, path: Path) -> None:
    """A part of the mosaic: what was labelled on the left, what was found with a score of at least 0.5 on the right."""
    labels = json.loads((work / "mosaic.json").read_text())
    names = {entry["id"]: entry["name"] for entry in labels["categories"]}
    found = [row for row in json.loads((work / "one" / "detections.json").read_text()) if row["score"] >= 0.5]
    top, left, height, width = 8 * (HEIGHT + GAP) + 240, 7 * (WIDTH + GAP) + 320, 2 * HEIGHT, int(1.5 * WIDTH)
    with rasterio.open(work / "mosaic.tif") as file:
        pixels = file.read(window=((top, top + height), (left, left + width))).transpose(1, 2, 0)
    panels = []
    for rows in (labels["annotations"], found):
        panel = Image.fromarray(pixels)
        pen = ImageDraw.Draw(panel)
        for row in rows:
            x, y, w, h = row["bbox"]
            if x + w > left and x < left + width and y + h > top and y < top + height:
                box = (x - left, y - top, x + w - left, y + h - top)
                pen.rectangle(box, outline=COLOURS[names[row["category_id"]]], width=4)
        panels.append(np.asarray(panel))
    both = Image.fromarray(np.concatenate(panels, axis=1))
    both.resize((1200, 600), Image.Resampling.LANCZOS).quantize(192).save(path)


def call(*words: Any) -> None:
    if xt([str(word) for word in words]) != 0:
        raise SystemExit(1)


if __name__ == "__main__":
    sys.exit(main())
