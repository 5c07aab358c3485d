"""Points of `gpu.py` that measure: the other benchmarks of this folder, called for a GPU, or small on a CPU."""

import argparse
import importlib.util
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any

import context as context_lengths
import large_step as large
import largest_image
import stages as stage_costs
import streaming
import torch
from common import make_scene

import xt

Row = dict[str, Any]
# Names and what to do; sent back is the row that came of it.
Points = Generator[tuple[str, Callable[[], Row]], Row, None]

SWIN = "swinv2_tiny_window16_256"
HEIGHT, WIDTH = large.HEIGHT, large.WIDTH
# A backbone for trying the steps out: everything as in a large one, but its size.
TINY = "convnext_atto"
TINY_OPTIONS: Row = {"depths": (1, 1, 1, 1), "dims": (8, 12, 16, 24)}
TINY_MODEL: Row = {"encoder_options": TINY_OPTIONS, "region_size": 64, "dim": 32}
# Of which the bare backbone's best batch is chosen.
BATCHES = (16, 32, 64, 128, 256)
ENCODERS = {
    "convnext_tiny": 256, SWIN: 256, "hiera_tiny_224": 224, "vit_large_patch14_clip_224": 224,
    "vit_huge_patch14_clip_224": 224,
}  # fmt: skip


def large_step(device: str, small: bool, folder: Path) -> Points:
    """Training and inference on 29,000 x 25,000 pixels through a memory map, each beside its plan."""
    height, width, batch = (256, 200, 4) if small else (HEIGHT, WIDTH, 64)
    settings: Row = {"encoder": TINY if small else SWIN, "context": "transformer_xl", "region_batch": batch}
    settings |= {"device": device, "precision": "bf16"} | (TINY_MODEL if small else {})

    def point(training: bool, head: Row) -> Row:
        scene = make_scene(folder / "scene.npy", height, width)
        took = large.step(str(scene), foreground=None, training=training, **settings, **head)
        planned = large.plan(height, width, training=training, **settings, **head)
        return {"image": f"{height:,} x {width:,}"} | took | planned

    heads: dict[str, Row] = {
        "classification": {},
        "segmentation": {"head": "segmentation", "num_classes": 2},
    }
    for name, head in heads.items():
        for training in (True, False):
            yield f"{name}, {'training' if training else 'inference'}", partial(point, training, head)


def whole_image(device: str, small: bool, folder: Path) -> Points:
    """The bare backbone on larger and larger images, until memory runs out; the paper stopped at 2,800 pixels."""
    encoder, sides = (TINY, (64, 128)) if small else (SWIN, tuple(range(1024, 32769, 512)))

    def point(side: int) -> Row:
        row = largest_image.run_whole(encoder, side, device, precision="bf16")
        return {"side": side, "ran out of memory": True} if row is None else row

    for side in sides:
        row = yield f"{side:,} pixels", partial(point, side)
        if "ran out of memory" in row:
            return


def throughput(device: str, small: bool, folder: Path) -> Points:
    """xt against the bare backbone, at the batch that is best for the bare one; the fastest ways first."""
    sizes = {TINY: 64} if small else ENCODERS
    side, batches = (128, (2, 4)) if small else (4096, BATCHES)
    compilers = (None, "aot_eager" if small else "inductor")
    options = argparse.Namespace(
        device=device, sizes=sizes, encoder_options=TINY_OPTIONS if small else {}, region_batch=1,
        rounds=1 if small else 2, readers=2 if small else 8,
    )  # fmt: skip

    def point(encoder: str, precision: str, compiler: str | None) -> Row:
        torch.compiler.reset()
        options.precision, options.compile = precision, compiler
        scene = make_scene(folder / "scene.npy", side)
        batch = options.region_batch = streaming.best_batch(encoder, options, batches)
        row = streaming.measure(encoder, scene, options)
        return row | {"precision": precision, "compile": compiler or "no", "region_batch": batch}

    for precision, compiler in (
        ("bf16", compilers[1]), ("bf16", None), ("fp32", None), ("fp32", compilers[1]),
    ):  # fmt: skip
        for encoder in sizes:
            name = f"{encoder}, {precision}{', compiled' if compiler else ''}"
            yield name, partial(point, encoder, precision, compiler)


def context(device: str, small: bool, folder: Path) -> Points:
    """Ours at every length, forward and training; beside them, at the shortest, what else is installed."""
    lengths = (64,) if small else (16384, 65536, 262144, 1048576)
    shared = {"device": device, "threads": 0, "repeat": 0.0 if small else 1.0}
    # Without CUDA FlexAttention has no gradients.
    flex = ("forward", "train") if device.startswith("cuda") else ("forward",)
    ours = dict.fromkeys(context_lengths.ENCODERS, ("forward", "train")) | {"longformer_flex": flex}
    for length in lengths:
        for encoder, modes in ours.items():
            if encoder == "full" and length > 65536:
                continue
            for mode in modes:
                settings = shared | {"encoder": encoder, "mode": mode, "length": length}
                yield f"{encoder}, {mode}, {length:,}", partial(context_lengths.measure_point, **settings)
    for encoder in _installed_references():
        for mode in ("forward", "train"):
            settings = shared | {"encoder": encoder, "mode": mode, "length": lengths[0]}
            yield f"{encoder}, {mode}, {lengths[0]:,}", partial(_in_a_process, settings)


def _installed_references() -> list[str]:
    found = ["mamba_plain"] if importlib.util.find_spec("mamba_ssm") else []
    has_transformers = importlib.util.find_spec("transformers") is not None
    return [*found, *(["transformers_longformer", "transformers_mamba"] if has_transformers else [])]


def _in_a_process(settings: Row) -> Row:
    # They change modules of ours, or take longer than there is time.
    return context_lengths._run(settings, 60) or {"did not finish": "in memory, or in a minute"}


def largest(device: str, small: bool, folder: Path) -> Points:
    """The largest square image that a plan fits into so much memory, trained with no more than that."""
    encoder, batch = (TINY, 4) if small else (SWIN, 16)

    def point(gigabytes: float) -> Row:
        torch.manual_seed(0)
        model = xt.create_model(
            encoder, context="transformer_xl", num_classes=10, **(TINY_MODEL if small else {})
        )
        # Small, in fewer and longer steps.
        size = model.region_encoder.region_size * (16 if small else 1)
        peaks = largest_image.Peaks(partial(largest_image.xt_bytes, model, batch), size)
        # Small, the plan is made and not believed: the process has no such limit on a CPU.
        side = peaks.largest_side(gigabytes * 1e9)
        row = {"memory_GB": gigabytes, "planned": side}
        with memory_of(gigabytes, device):
            return row | largest_image.run(model.to(device), 192 if small else side, batch, device)

    for gigabytes in (0.61,) if small else (8, 24, 40, 80):
        if (
            device.startswith("cuda")
            and gigabytes * 1e9 > torch.cuda.get_device_properties(device).total_memory
        ):
            continue
        yield f"{gigabytes:g} GB", partial(point, gigabytes)


class memory_of:  # noqa: N801 - used as a statement
    """Lets this process have so much of a GPU, and again all of it afterwards."""

    def __init__(self, gigabytes: float, device: str) -> None:
        self.bytes, self.device = gigabytes * 1e9, torch.device(device)

    def __enter__(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
            total = torch.cuda.get_device_properties(self.device).total_memory
            torch.cuda.set_per_process_memory_fraction(min(self.bytes / total, 1.0), self.device)

    def __exit__(self, *_: object) -> None:
        if self.device.type == "cuda":
            torch.cuda.set_per_process_memory_fraction(1.0, self.device)


def stages(device: str, small: bool, folder: Path) -> Points:
    """A point for all stages, as each is short."""
    options = argparse.Namespace(
        encoders=[TINY] if small else ["convnext_tiny", SWIN], encoder_options=TINY_OPTIONS if small else {},
        region_size=64 if small else 256, context="transformer_xl", region_batch=2 if small else 64,
        tokens=64 if small else 65536, rounds=1 if small else 3, threads=1, device=device, precision="bf16",
    )  # fmt: skip

    def point() -> Row:
        scene = make_scene(folder / "scene.npy", 256 if small else 4096)
        return {"stages": list(stage_costs.measured(scene, folder, options))}

    yield "all", point
