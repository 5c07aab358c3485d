"""Makes the runs beside this file with the code of commit fbfecda, the last before the configuration was divided by
source and task: `python make.py FOLDER`, with that commit's `xt` on the path."""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import tifffile
import torch
from xt.configuration_parser import config_from_dict

import xt
from xt.training.run import train

MODEL = {
    "encoder": "convnext_atto",
    "encoder_options": {"depths": [1, 1, 1, 1], "dims": [4, 4, 4, 4]},
    "region_size": 32,
    "tokens_per_region": 1,
    "dim": 8,
    "context": "none",
}
TRAIN = {"epochs": 1, "batch_size": 2, "accelerator": "cpu", "region_batch": 8, "progress": False}
COLOURS = {"red": (220, 40, 40), "blue": (40, 40, 220)}


def write_images(folder: Path) -> None:
    generator = np.random.default_rng(0)
    rows = ["file,answer,marks,part"]
    for number in range(8):
        colour = list(COLOURS)[number % 2]
        image = np.full((48, 70, 3), 90, np.uint8)
        y, x = int(generator.integers(32)), int(generator.integers(50))
        image[y : y + 16, x : x + 16] = COLOURS[colour]
        tifffile.imwrite(folder / f"{number}.tif", image, photometric="rgb", compression="zlib")
        (folder / f"{number}.csv").write_text(f"y,x,kind\n{y + 8},{x + 8},{colour}\n")
        rows.append(
            f"{number}.tif,{colour},{number}.csv,{'learn' if number < 4 else 'val' if number < 6 else 'test'}"
        )
    (folder / "table.csv").write_text("\n".join(rows) + "\n")


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    write_images(folder)
    data = {"table": "table.csv", "image_column": "file", "split_column": "part", "train_split": "learn"}
    runs = {
        "classification": {"data": {**data, "label_columns": ["answer"]}},
        "points": {
            "data": {
                **data,
                "points_column": "marks",
                "label_columns": ["kind"],
                "augmentation": {"train_size": 64, "label_centred": 0.5},
            },
            "evaluation": {"distance": 7.5, "score_threshold": 0.001},
            "model": {"head_options": {"width": 8, "radius": 6.0, "score_threshold": 0.001}},
        },
    }
    expected = {}
    for head, values in runs.items():
        model = {**MODEL, "head": head, **values.pop("model", {})}
        settings = {"model": model, "train": {"out": f"{head}_run", **TRAIN}, **values}
        train(config_from_dict(settings))
        run = folder / f"{head}_run"
        metrics = json.loads((run / "metrics.json").read_text())
        expected[head] = {part: metrics[part] for part in ("validation", "test")}
        with torch.no_grad(), xt.open_image(folder / "7.tif") as image:
            model = xt.load_model(run / "model.safetensors").eval()
            if head == "classification":
                expected[head]["logits"] = model(image)[0].tolist()
            else:
                found = [part for _, tables in model.decode(image) for part in tables]
                expected[head]["scores"] = [float(score) for part in found for score in part.scores][:20]
        # Going on for a second epoch, elsewhere.
        shutil.copytree(run, folder / "more")
        train(
            config_from_dict(
                {**settings, "train": {**settings["train"], "out": "more", "epochs": 2, "resume": "auto"}}
            )
        )
        expected[head]["resumed"] = (folder / "more" / "curves.csv").read_text()
        shutil.rmtree(folder / "more")
        for path in run.rglob("*"):
            if path.is_file() and path.name not in ("config.yaml", "model.safetensors", "last.ckpt"):
                path.unlink()
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
