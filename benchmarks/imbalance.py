"""A class of 3 %: which ways of training find it.

    python benchmarks/imbalance.py [--folder FOLDER]

Images of 32 x 32 grey pixels whose brightness is drawn around one mean for `normal`, and 1.6 standard deviations above
it for `rare`, so that no model can be sure: at equal frequency 79 % of each class can be told, at 3 % hardly any rare
image is more probably rare than not. 600 images are for training, 300 for validation, 600 for the test; each way is
trained equally long. Means over three seeds.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from common import print_table, write_results

from xt.config.parser import config_from_dict
from xt.training.run import train

SHARE, APART = 0.03, 1.6
IMAGES = {"train": 600, "val": 300, "test": 600}
WAYS: dict[str, dict[str, Any]] = {
    "as they come": {},
    "class weights": {"head_options": {"class_weights": "balanced"}},
    "weights and focal loss": {"head_options": {"class_weights": "balanced", "focal": 2.0}},
    "balanced sampling": {"train": {"sampling": "balanced"}},
    "logit adjustment": {"head_options": {"logit_adjustment": 1.0}},
    "threshold on validation": {"train": {"thresholds": "balanced_accuracy"}},
}
_COLUMNS = ("recall of rare", "recall of normal", "balanced_accuracy", "auroc", "top1")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, help="for images and runs; a temporary one without")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        found = {way: [measured(folder, way, seed) for seed in range(arguments.seeds)] for way in WAYS}
    rows = [
        {"trained": way, **{name: float(np.mean([one[name] for one in some])) for name in _COLUMNS}}
        for way, some in found.items()
    ]
    print_table(rows)
    print(f"wrote {write_results('imbalance', rows, share=SHARE, images=IMAGES, seeds=found)}")


def measured(folder: Path, way: str, seed: int) -> dict[str, float]:
    """What a run in this way finds of the test images."""
    from xt.prediction.evaluation import evaluate

    table = images(folder / f"images{seed}", seed)
    options = WAYS[way]
    config = config_from_dict(
        {
            "model": {
                "encoder": "convnext_atto",
                "encoder_options": {"depths": [1, 1, 1, 1], "dims": [8, 8, 16, 16]},
                "region_size": 32,
                "in_channels": 1,
                "tokens_per_region": 1,
                "context": "none",
                "dim": 16,
                "pixel_mean": [0.5],
                "pixel_std": [0.1],
                "head_options": options.get("head_options", {}),
            },
            "data": {"table": str(table), "augmentation": {"flips": False, "quarter_turns": False}},
            "optim": {"lr": 3e-3, "layer_decay": 1.0},
            "train": {
                "out": str(folder / f"{way} {seed}"),
                "epochs": 6,
                "batch_size": 20,
                "best": "loss",
                "seed": seed,
                "accelerator": "cpu",
                **options.get("train", {}),
            },
        }
    )
    result = train(config, evaluate_test=False)
    metrics = evaluate(result.folder, table, device="cpu", resamples=0)
    evaluation = metrics.evaluation
    targets, said = evaluation.table.targets, evaluation.decisive.argmax(axis=1)  # type: ignore[attr-defined]
    recalls = {
        f"recall of {name}": float((said[targets == place] == place).mean())
        for place, name in enumerate(("normal", "rare"))
    }
    return {**recalls, **{name: metrics.metrics[name] for name in _COLUMNS if name not in recalls}}


def images(folder: Path, seed: int) -> Path:
    """The table of the images, which are made if they are not there."""
    table = folder / "table.csv"
    if table.exists():
        return table
    folder.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    rows = ["image,label,split"]
    for split, count in IMAGES.items():
        for number in range(count):
            is_rare = number < SHARE * count
            brightness = 128 + 12 * (generator.standard_normal() + APART * is_rare)
            noise = 20 * generator.standard_normal((32, 32))
            pixels = np.clip(brightness + noise, 0, 255).astype(np.uint8)
            tifffile.imwrite(folder / f"{split}{number}.tif", pixels)
            rows.append(f"{split}{number}.tif,{'rare' if is_rare else 'normal'},{split}")
    table.write_text("\n".join(rows) + "\n")
    return table


if __name__ == "__main__":
    main()
