"""Tree crowns on a map: trained by `xt train`, predicted by `xt predict`, measured on the GeoJSON that was written.

    python benchmarks/neon_trees.py --data FOLDER --work FOLDER

The data are airborne pictures of three forests of the NEON network, 10 cm a pixel, with crowns as Pascal VOC's boxes
(as DeepForest ships them): OSBS_029 on a map (EPSG:32617), SOAP_061 and 2019_YELL_2... without. Trees, living and dead
ones are one class. The eastern half of OSBS_029 is held out: its western half, SOAP_061 and three quarters of YELL are
trained on, the last quarter of YELL chooses the epoch. OSBS_029 is then predicted whole, from its own file, and the
boxes are compared with the crowns of the eastern half in map coordinates, and once more with the crowns moved by ten
metres, where hardly any should match.
"""

import argparse
import contextlib
import io
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.errors
import yaml
from common import RESULTS, peak_bytes, print_table, write_results
from PIL import Image
from rasterio.transform import Affine

from xt.labels.box_table import BoxTable
from xt.labels.box_windows import cut_boxes
from xt.labels.formats.coco_entries import CocoImage
from xt.labels.formats.coco_writing import write_instances
from xt.labels.formats.voc import read_voc
from xt.results.box_writers import read_boxes

CLASSES = ("Tree",)
SCENE = "OSBS_029"
HELD_OUT_FROM = 200
YELL = "2019_YELL_2_541000_4977000_image_crop"
# From which scores a box counts, the last of them also in the picture; average precision takes all.
SCORES = (0.3, 0.5)
# Metres, about two crowns.
MOVED = 10.0
# Of the parts: split, image, and the columns of it.
PARTS = {
    "osbs_west": ("train", f"{SCENE}.tif", 0, HELD_OUT_FROM),
    "soap": ("train", "SOAP_061.png", 0, None),
    "yell": ("train", f"{YELL}.png", 0, 936),
    "yell_east": ("val", f"{YELL}.png", 936, None),
    "osbs_east": ("test", f"{SCENE}.tif", HELD_OUT_FROM, None),
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of DeepForest's pictures and XML files"
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for the run and the prediction")
    parser.add_argument("--seconds", type=float, default=420, help="of training (default: 420)")
    arguments = parser.parse_args()
    if not (arguments.data / f"{SCENE}.xml").is_file():
        print(f"neon_trees: skipped, {arguments.data} holds no {SCENE}.xml with its picture beside it")
        return 0
    arguments.work.mkdir(parents=True, exist_ok=True)
    truth = make_parts(arguments.data, arguments.work)
    run, metrics = train(arguments.work, arguments.seconds)
    found = predict(run, arguments.data / f"{SCENE}.tif", arguments.work)
    rows = measure(found, arguments.data / f"{SCENE}.tif", truth)
    print_table(rows)
    print_table([metrics])
    picture = RESULTS / "neon_trees.png"
    draw(found, arguments.data / f"{SCENE}.tif", truth, picture)
    print(f"wrote {write_results('neon_trees', rows, moved_by_metres=MOVED, **metrics)} and {picture}")
    return 0


def make_parts(data: Path, work: Path) -> BoxTable:
    """The pictures of the splits, their files of instances, and the crowns of the held-out half in the whole scene."""
    converted = read_voc(data, data)
    boxes = {image.file_name: table for image, table in zip(converted.images, converted.boxes, strict=True)}
    parts: dict[str, list[tuple[CocoImage, BoxTable]]] = {}
    for number, (name, (split, source, left, right)) in enumerate(PARTS.items(), start=1):
        shape = cut_picture(data / source, work / f"{name}.tif", left, right)
        table = cut_boxes(boxes[source], 0, left, *shape)
        table = BoxTable.of(table.edges, crowd=table.crowd, areas=table.areas)
        parts.setdefault(split, []).append((CocoImage(number, f"{name}.tif", shape), table))
    for split, entries in parts.items():
        images, tables = zip(*entries, strict=True)
        write_instances(work / f"{split}.json", images, tables, CLASSES)
        print(f"{split}: {len(images)} pictures, {sum(len(table) for table in tables)} crowns")
    whole = BoxTable.of(boxes[f"{SCENE}.tif"].edges)
    return whole.select(whole.centres[:, 1] >= HELD_OUT_FROM)


def cut_picture(source: Path, destination: Path, left: int, right: int | None) -> tuple[int, int]:
    """Some columns of a picture, with its place on the map if it has one; (height, width)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(source) as file:
            pixels = file.read(window=((0, file.height), (left, right or file.width)))
            place = {"crs": file.crs, "transform": file.transform @ Affine.translation(left, 0)}
        count, height, width = pixels.shape
        with rasterio.open(
            destination, "w", driver="GTiff", dtype="uint8", count=count, height=height, width=width,
            **(place if place["crs"] else {}),
        ) as file:  # fmt: skip
            file.write(pixels)
    return height, width


def configuration(work: Path, seconds: float) -> dict[str, Any]:
    # Without layer scale, whose blocks say next to nothing in the first thousands of steps.
    encoder = {"depths": [1, 1, 2, 1], "dims": [32, 48, 96, 160], "ls_init_value": None}
    model = {
        "encoder": "convnext_atto", "encoder_options": encoder, "region_size": 256, "halo": 32, "tokens_per_region": 16,
        "context": "none", "dim": 64, "head": "detection", "head_options": {"width": 64, "score_threshold": 0.05},
    }  # fmt: skip
    changes = {"train_size": 256, "label_centred": 0.5, "windows": 16, "brightness": 0.2, "contrast": 0.2}
    return {
        "model": model,
        "data": {"coco": [str(work / f"{split}.json") for split in ("train", "val", "test")], "augmentation": changes},
        "optim": {"lr": 1e-3, "layer_decay": 1.0, "warmup": 0.05},
        "train": {
            "out": str(work / "run"), "epochs": 1_000, "max_seconds": seconds, "batch_size": 4, "accelerator": "cpu",
            "region_batch": 4, "keep": "all", "validate_every": 5, "progress": False,
        },
    }  # fmt: skip


def train(work: Path, seconds: float) -> tuple[Path, dict[str, Any]]:
    """The run folder, and what `xt train` says of it."""
    from xt.cli.main import main as xt

    path = work / "trees.yaml"
    path.write_text(yaml.safe_dump(configuration(work, seconds), sort_keys=False))
    started = time.process_time()
    if xt(["train", str(path)]) != 0:
        raise SystemExit(1)
    metrics = json.loads((work / "run" / "metrics.json").read_text())
    return work / "run", {
        "training_s": round(metrics["training_seconds"]),
        "cpu_s_with_test": round(time.process_time() - started),
        "steps": metrics["steps"],
        "peak_gib": round(peak_bytes() / 2**30, 2),
    }


def predict(run: Path, scene: Path, work: Path) -> Path:
    """The folder of the results, of a prediction that was made anew."""
    from xt.cli.main import main as xt

    command = [
        "predict",
        str(run),
        str(scene),
        "--out",
        str(work / "found"),
        "--overwrite",
        "--device",
        "cpu",
        "--least-score",
        "0",
    ]
    if xt(command) != 0:
        raise SystemExit(1)
    return work / "found"


def measure(found: Path, scene: Path, truth: BoxTable) -> list[dict[str, Any]]:
    """From the written files, with rasterio, pycocotools and NumPy alone; a row for each score to count from."""
    on_map, scores = boxes_on_map(found)
    with rasterio.open(scene) as file:
        transform = file.transform
    table = read_boxes(found / f"{SCENE}.boxes.csv")
    # West, south, east, north back to y0, x0, y1, x1.
    back = np.array([[*(~transform @ (w, n))[::-1], *(~transform @ (e, s))[::-1]] for w, s, e, n in on_map])
    for_all = {
        **average_precisions(found, truth),
        "largest_map_error_px": float(f"{np.abs(back - table.edges).max():.1g}"),
    }
    crowns = np.array([[*(transform @ (x0, y1)), *(transform @ (x1, y0))] for y0, x0, y1, x1 in truth.edges])
    rows = []
    for score in SCORES:
        counted = on_map[(scores >= score) & (table.centres[:, 1] >= HELD_OUT_FROM)]
        matched = num_matched(counted, crowns)
        rows.append(
            {
                "score": score,
                "crowns": len(truth),
                "found": len(counted),
                "matched": matched,
                "matched_if_moved": num_matched(counted, crowns + np.array([MOVED, 0, MOVED, 0])),
                "precision": round(matched / max(len(counted), 1), 3),
                "recall": round(matched / len(truth), 3),
                **for_all,
            }
        )
    return rows


def boxes_on_map(found: Path) -> tuple[np.ndarray, np.ndarray]:
    """(N, 4) west, south, east, north of the GeoJSON's polygons, and their scores."""
    features = json.loads((found / f"{SCENE}.boxes.geojson").read_text())["features"]
    rings = np.array([feature["geometry"]["coordinates"][0] for feature in features]).reshape(-1, 5, 2)
    scores = np.array([feature["properties"]["score"] for feature in features])
    return np.concatenate([rings.min(axis=1), rings.max(axis=1)], axis=1), scores


def num_matched(found: np.ndarray, crowns: np.ndarray, least_iou: float = 0.5) -> int:
    """How many crowns have a box of their own; boxes come best first, and each takes the best crown that is left."""
    left = list(range(len(crowns)))
    matched = 0
    for box in found:
        overlaps = [iou(box, crowns[number]) for number in left]
        if overlaps and max(overlaps) >= least_iou:
            left.pop(int(np.argmax(overlaps)))
            matched += 1
    return matched


def iou(one: np.ndarray, other: np.ndarray) -> float:
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    shared = float(np.maximum(sides, 0).prod())
    return shared / (float((one[2:] - one[:2]).prod()) + float((other[2:] - other[:2]).prod()) - shared)


def average_precisions(found: Path, truth: BoxTable) -> dict[str, float]:
    """By pycocotools, of the folder's detections in the held-out half."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    images = json.loads((found / "detections.images.json").read_text())
    (image,) = images["images"]
    path = found.parent / "truth.json"
    shape = image["height"], image["width"]
    write_instances(path, [CocoImage(image["id"], image["file_name"], shape)], [truth], CLASSES)
    entries = json.loads((found / "detections.json").read_text())
    east = [entry for entry in entries if entry["bbox"][0] + entry["bbox"][2] / 2 >= HELD_OUT_FROM]
    if not east:
        return {"ap50": 0.0, "ap": 0.0}
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(path))
        evaluation = COCOeval(coco, coco.loadRes(east), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {"ap50": round(float(evaluation.stats[1]), 3), "ap": round(float(evaluation.stats[0]), 3)}


def draw(found: Path, scene: Path, truth: BoxTable, path: Path) -> None:
    """The scene in map coordinates, with the GeoJSON's polygons and the crowns of the held-out half."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    with rasterio.open(scene) as file:
        pixels, transform, bounds = file.read().transpose(1, 2, 0), file.transform, file.bounds
    on_map, scores = boxes_on_map(found)
    figure = Figure(figsize=(8, 8.4), dpi=90, layout="constrained")
    axes = figure.subplots()
    axes.imshow(pixels, extent=(bounds.left, bounds.right, bounds.bottom, bounds.top))
    border = (transform @ (HELD_OUT_FROM, 0))[0]
    axes.axvline(border, color="white", lw=1.5, ls="--")

    def add(west: float, south: float, east: float, north: float, **style: Any) -> None:
        axes.add_patch(Rectangle((west, south), east - west, north - south, fill=False, **style))

    for y0, x0, y1, x1 in truth.edges:
        add(*(transform @ (x0, y1)), *(transform @ (x1, y0)), color="cyan", lw=1.4)
    for box in on_map[scores >= SCORES[-1]]:
        add(*box, color="orange", lw=1.2)
    axes.set_title(
        f"{scene.name} on its map; right of the dashed line held out\n"
        f"cyan: crowns by hand, orange: found (score from {SCORES[-1]})",
        fontsize=10,
    )
    axes.ticklabel_format(useOffset=False, style="plain")
    axes.set_xlabel("east, m (EPSG:32617)")
    axes.set_ylabel("north, m")
    axes.tick_params(labelsize=7)
    picture = io.BytesIO()
    figure.savefig(picture)
    Image.open(picture).convert("RGB").quantize(64).save(path)


if __name__ == "__main__":
    sys.exit(main())
