"""The iNaturalist recipe against plain timm training: regions per second with reading, decoding, augmentation and step.

    python benchmarks/inaturalist.py
    python benchmarks/inaturalist.py --recipe inaturalist/swin_b_hyper_512_256 --device cuda

JPEG files of 800 x 600 pixels in iNaturalist's format are trained on for some steps, each time from starting the
loader's workers to the last update of the weights:
    xt       the recipe: its dataset, loader, model (region encoder, context encoder, head), loss and optimiser as
             `xt train` makes them
    regions  the same backbone of timm with its own pooling and linear classifier, on the same regions as one batch: a
             DataLoader of as many workers that decode with PIL, timm's own training transform with the same settings
             and scaling, timm's loss, AdamW with the same settings, the same longest gradient
    whole    as `regions`, but the backbone takes each photograph whole, at the recipe's image size, its windows over
             all of it; it counts as many regions
Rounds of the contestants are interleaved and the fastest of each is taken, as whatever disturbs a round makes it
slower; the seconds that the contestants' processes computed are given beside those that passed. On a machine that does
other work, pin the whole to a core (`taskset -c 0`, `--threads 1`).
"""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from common import keep_freed_memory, print_table, write_results
from PIL import Image
from timm.data import create_transform
from timm.loss import LabelSmoothingCrossEntropy
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from xt.config.parser import load_config
from xt.config.run import RunConfig
from xt.labels.image_table import ImageTable
from xt.training.loading import training_data
from xt.training.optimiser import make_optimiser
from xt.training.preparation import prepare_model, reading, resolve_classes
from xt.training.tables import load_splits

CONTESTANTS = ("xt", "regions", "whole")
CLASSES = 284
RECIPE = "inaturalist/swin_t_hyper_512_256"


def make_photos(folder: Path, number: int) -> None:
    """JPEG files with structure at every scale, and iNaturalist's three JSON files."""
    rng = np.random.default_rng(0)
    (folder / "train_val2018").mkdir()
    y, x = np.arange(600)[:, None], np.arange(800)[None, :]
    images = []
    for image in range(number):
        waves = sum(np.sin(y / 2**k + image) * np.cos(x / 2**k + k) for k in (2, 4, 6)) * 30 + 128
        pixels = np.clip(waves[..., None] + rng.integers(-12, 12, (600, 800, 3)), 0, 255).astype(np.uint8)
        name = f"train_val2018/{image}.jpg"
        Image.fromarray(pixels).save(folder / name, quality=90)
        images.append({"id": image, "file_name": name})
    labels = [{"id": i, "image_id": i, "category_id": i % CLASSES} for i in range(number)]
    species = [{"id": i, "name": f"species {i}", "supercategory": "Reptilia"} for i in range(CLASSES)]
    (folder / "categories.json").write_text(json.dumps(species))
    (folder / "train2018.json").write_text(json.dumps({"images": images, "annotations": labels}))
    val = {"images": images[:1], "annotations": labels[:1]}
    (folder / "val2018.json").write_text(json.dumps(val))


class PlainPhotos(Dataset[tuple[Tensor, int]]):
    """What one writes first: PIL, and timm's transform down to normalised floats."""

    def __init__(self, table: ImageTable, config: RunConfig, mean: list[float], std: list[float]) -> None:
        photos = config.data.photos
        self.table = table
        self.transform = create_transform(
            config.model.image_size or 0,
            is_training=True,
            scale=photos.scale,
            ratio=photos.ratio,
            hflip=photos.hflip,
            vflip=photos.vflip,
            color_jitter=photos.color_jitter,
            auto_augment=photos.auto_augment,
            interpolation="bilinear",
            mean=tuple(mean),
            std=tuple(std),
        )

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with Image.open(self.table.paths[index]) as image:
            return self.transform(image.convert("RGB")), int(self.table.targets[index])


Step = Callable[[Any], None]


def xt_training(
    config: RunConfig, table: ImageTable, device: torch.device
) -> tuple[Callable[[], Iterator[Any]], Step]:
    """A loader anew for each round, and the step, as `xt train` has them; and the backbone's pixel statistics."""
    splits = load_splits(config.data, config.labels, config.model)
    splits = replace(splits, train=table)
    model, config = prepare_model(config, table)
    model.to(device).train()
    optimiser = make_optimiser(
        model,
        lr=config.optim.lr,
        encoder_lr_factor=config.optim.encoder_lr_factor,
        layer_decay=config.optim.layer_decay,
        weight_decay=config.optim.weight_decay,
        betas=config.optim.betas,
    )

    def batches() -> Iterator[Any]:
        data = training_data(config, splits, reading(config.data, model))
        for batch in data.train_dataloader():
            yield batch.to(device)

    def step(batch: Any) -> None:
        with autocast(config, device):
            loss = model.loss(batch.images, batch.targets)
        update(loss, model, optimiser, config)

    return batches, step


def plain_training(
    config: RunConfig, table: ImageTable, device: torch.device, whole: bool
) -> tuple[Callable[[], Iterator[Any]], Step]:
    """The same with timm and torch alone."""
    size, region = config.model.image_size or 0, config.model.region_size or 256
    model = timm.create_model(
        config.model.encoder, num_classes=CLASSES, img_size=size if whole else region
    ).to(device)
    model.train()
    optimiser = torch.optim.AdamW(
        timm.optim.param_groups_weight_decay(model, config.optim.weight_decay), lr=config.optim.lr
    )
    loss_of = LabelSmoothingCrossEntropy(config.model.head_options["label_smoothing"])
    data_config = timm.data.resolve_data_config(model=model)
    dataset = PlainPhotos(table, config, list(data_config["mean"]), list(data_config["std"]))
    side = size // region

    def batches() -> Iterator[Any]:
        loader = DataLoader(
            dataset,
            config.train.batch_size,
            shuffle=True,
            num_workers=config.data.photos.workers,
            pin_memory=device.type == "cuda",
        )
        for images, targets in loader:
            yield images.to(device, non_blocking=True), targets.to(device, non_blocking=True)

    def step(batch: Any) -> None:
        images, targets = batch
        if not whole:
            images = images.unflatten(3, (side, region)).unflatten(2, (side, region))
            images = images.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
            targets = targets.repeat_interleave(side**2)
        with autocast(config, device):
            loss = loss_of(model(images), targets)
        update(loss, model, optimiser, config)

    return batches, step


def autocast(config: RunConfig, device: torch.device) -> torch.autocast:
    return torch.autocast(
        device.type, torch.bfloat16, enabled=config.train.precision == "bf16-mixed", cache_enabled=True
    )


def update(loss: Tensor, model: nn.Module, optimiser: torch.optim.Optimizer, config: RunConfig) -> None:
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), config.train.gradient_clip)
    optimiser.step()
    optimiser.zero_grad()


def seconds(batches: Callable[[], Iterator[Any]], step: Step, device: torch.device) -> tuple[float, float]:
    """Of a round, and those that all its processes computed: on a core that others use, too, the latter are fewer."""
    computed, start = cpu_seconds(), time.perf_counter()
    for batch in batches():
        step(batch)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start, cpu_seconds() - computed


def cpu_seconds() -> float:
    """Of this process and of those it started that have ended, as loaders' workers have after a round."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(used.ru_utime + used.ru_stime for used in usage)


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    device = torch.device(options.device)
    make_photos(folder, options.batch_size * options.steps)
    config = load_config(
        options.recipe,
        [
            f"--data.inaturalist={folder}",
            "--model.pretrained=false",
            f"--model.pixel_mean={list(timm.data.IMAGENET_DEFAULT_MEAN)}",
            f"--model.pixel_std={list(timm.data.IMAGENET_DEFAULT_STD)}",
            f"--train.batch_size={options.batch_size}",
            f"--train.precision={options.precision}",
            f"--data.photos.workers={options.workers}",
            *options.set,
        ],
    )
    table = load_splits(config.data, config.labels, config.model).train
    config = resolve_classes(config, table)
    side = -(-(config.model.image_size or 0) // (config.model.region_size or 256))
    regions = len(table) * side**2
    works = {
        "xt": lambda: xt_training(config, table, device),
        "regions": lambda: plain_training(config, table, device, whole=False),
        "whole": lambda: plain_training(config, table, device, whole=True),
    }
    made = {name: works[name]() for name in options.contestants}
    rounds: list[dict[str, tuple[float, float]]] = []
    for number in range(options.rounds + 1):
        times = {name: seconds(*work, device) for name, work in made.items()}
        print({name: [round(t, 2) for t in both] for name, both in times.items()}, flush=True)
        if number:  # the first one warms up
            rounds.append(times)
    row: dict[str, Any] = {"recipe": Path(options.recipe).stem, "dim": config.model.dim, "regions": regions}
    for which, unit in enumerate(("s", "CPU s")):
        rates = {name: regions / min(times[name][which] for times in rounds) for name in made}
        row |= {f"{name}: regions / {unit}": round(rate, 3) for name, rate in rates.items()}
        others = [name for name in rates if "xt" in rates and name != "xt"]
        row |= {f"xt / {name} ({unit})": round(rates["xt"] / rates[name], 3) for name in others}
    return row | {"rounds": rounds}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default=RECIPE)
    parser.add_argument("--contestants", nargs="+", default=list(CONTESTANTS), choices=CONTESTANTS)
    parser.add_argument("--batch-size", type=int, default=2, help="photographs of a step")
    parser.add_argument("--steps", type=int, default=3, help="of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of PyTorch")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="32-true", choices=["32-true", "bf16-mixed"])
    parser.add_argument(
        "--set", action="append", default=[], metavar="--KEY=VALUE", help="of the recipe; may be repeated"
    )
    parser.add_argument("--dry", action="store_true", help="write no file")
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        row = measure(options, Path(folder))
    print_table([{name: value for name, value in row.items() if name != "rounds"}])
    if not options.dry:
        # By its name: where it lies is no part of the result.
        given = vars(options) | {"recipe": Path(options.recipe).stem}
        print(f"\nwritten to {write_results('inaturalist', [row], options=given)}")


if __name__ == "__main__":
    main()
