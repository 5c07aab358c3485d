"""What each stage costs by itself, for one region or one token: the figures docs/scale.md reckons with.

    python benchmarks/stages.py
    python benchmarks/gpu.py --only stages        # on a GPU

Reading and decoding, conversion, encoding forward and back, the context encoder forward and back, the decoder of a
segmentation, and writing its mask, each alone and each the fastest of some rounds. Seconds are those that a core was
busy with it (`time.process_time`), so that what else runs on the machine counts little; with one thread they are the
time it takes. On a GPU they are the clock's.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import keep_freed_memory, make_scene, on_device, open_scene, print_table, write_results

import xt
from xt.regions.grid import Region


def fastest(work: Callable[[], Any], rounds: int, device: torch.device | None = None) -> float:
    """Seconds of the fastest round, after one that warms up: of a core, or by the clock on another device."""

    def took() -> float:
        if device is not None and device.type != "cpu":
            return on_device(work, device)
        start = time.process_time()
        work()
        return time.process_time() - start

    return min([took() for _ in range(rounds + 1)][1:])


def reading(scene: Path, region_size: int, threads: int, rounds: int) -> tuple[float, float]:
    """Seconds and compressed bytes of a region, from a file opened anew."""
    grid = xt.RegionGrid.from_image(open_scene(scene), region_size)

    def read() -> None:
        reader = xt.RegionReader([open_scene(scene)], [grid], region_batch=16, threads=threads)
        for _ in reader:
            pass

    return fastest(read, rounds) / len(grid), scene.stat().st_size / len(grid)


def encoding(model: xt.XT, batch: int, rounds: int) -> dict[str, float]:
    """Seconds of a region: conversion, forward, forward and backward."""
    size, encoder = model.region_encoder.region_size, model.region_encoder
    shape = (batch, model.config.in_channels, size, size)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, device=model.device)

    def forward() -> None:
        with torch.inference_mode():
            encoder(pixels, None)

    def both() -> None:
        encoder(pixels, None).sum().backward()

    def convert() -> None:
        with torch.inference_mode():
            encoder.scaling(pixels, None)

    works = {"convert": convert, "encode": forward, "encode and back": both}
    return {name: fastest(work, rounds, model.device) / batch for name, work in works.items()}


def mixing(model: xt.XT, length: int, rounds: int) -> dict[str, float]:
    """Seconds of a token in the context encoder, forward, and forward and backward."""
    tokens = torch.randn(1, length, model.config.dim, requires_grad=True, device=model.device)
    positions = torch.rand(1, length, 2, device=model.device) * 4096

    def forward() -> None:
        with torch.inference_mode():
            model.context_encoder(tokens, positions, None)

    def both() -> None:
        model.context_encoder(tokens, positions, None).sum().backward()

    works = {"mix": forward, "mix and back": both}
    return {name: fastest(work, rounds, model.device) / length for name, work in works.items()}


def decoding(model: xt.XT, batch: int, rounds: int) -> float:
    """Seconds of a region in a segmentation's decoder, given its feature maps."""
    geometry = model.head.geometry
    maps = [
        torch.randn(batch, dim, *(geometry.window_size // stride,) * 2, device=model.device)
        for dim, stride in zip(geometry.feature_dims, geometry.strides, strict=True)
    ]
    around = (geometry.tokens_per_side + 2 * model.head.reach) ** 2
    context = torch.randn(batch, around, geometry.context_dim, device=model.device)
    regions = [Region(0, 0, geometry.region_size, geometry.region_size)] * batch

    def decode() -> None:
        with torch.inference_mode():
            model.head.decode(model.head(maps, context), regions)

    return fastest(decode, rounds, model.device) / batch


def writing(folder: Path, region_size: int, regions: int, rounds: int) -> dict[str, float]:
    """Seconds of a region: from its class numbers to the store that survives a crash, and from there to the result."""
    from xt.results.dense_writers import write_mask
    from xt.results.region_store import RegionStore

    rng = np.random.default_rng(0)
    # Patches of 32 pixels, as masks are.
    patches = rng.integers(0, 2, (16, 1, region_size // 32, region_size // 32), dtype=np.uint8)
    labels = patches.repeat(32, axis=2).repeat(32, axis=3)

    def store() -> None:
        with RegionStore(folder / "store", {"measured": "stages"}, restart=True) as file:
            for _ in range(regions // 16):
                file.append(labels)
            file.sync()
            file.remove()

    side = int(regions**0.5)
    mask = xt.open_image(np.tile(labels[0, 0], (side, side)))

    def result() -> None:
        write_mask(mask, folder / "mask.tif", ["nothing", "something"], {})

    stored, written = fastest(store, rounds) / regions, fastest(result, rounds) / side**2
    return {"keep what was decoded": stored, "write the mask, with overviews": written}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoders", nargs="+", default=["convnext_atto", "swinv2_tiny_window16_256"])
    parser.add_argument("--context", default="transformer_xl")
    parser.add_argument("--region-batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=4096, help="side of the image that is read")
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--region-size", type=int, default=256)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.set_defaults(encoder_options={})
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        scene = make_scene(Path(folder) / "scene.tif", options.size)
        for row in measured(scene, Path(folder), options):
            rows.append(row)
            print_table(rows[-1:])
    print()
    print_table(rows)
    print(f"\nwritten to {write_results('stages', rows, options=vars(options))}")


def measured(scene: Path, folder: Path, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each stage. Files are read and written where the scene is one."""

    def row(stage: str, seconds: float, of: str, note: str = "") -> dict[str, Any]:
        each = {"stage": stage, "microseconds": round(seconds * 1e6, 1), "of one": of}
        return each | {"a second": round(1 / seconds, 1), "note": note}

    side, is_file = options.region_size, scene.suffix != ".npy"
    seconds, size = reading(scene, side, options.threads, options.rounds)
    yield row(
        "read and decode", seconds, "region", f"{size / 1e3:.0f} kB of {'JPEG' if is_file else 'an array'}"
    )
    if is_file:
        for stage, seconds in writing(folder, side, 512, options.rounds).items():
            yield row(stage, seconds, "region", "one band of 8 bits")
    for name in options.encoders:
        model = xt.create_model(
            name, context=options.context, head="segmentation", num_classes=2, region_size=side,
            encoder_options=options.encoder_options,
        ).to(options.device)  # fmt: skip
        with torch.autocast(model.device.type, torch.bfloat16, enabled=options.precision == "bf16"):
            for stage, seconds in encoding(model, options.region_batch, options.rounds).items():
                yield row(stage, seconds, "region", name)
            yield row("decode", decoding(model.eval(), options.region_batch, options.rounds), "region", name)
    for stage, seconds in mixing(model, options.tokens, options.rounds).items():
        yield row(stage, seconds, "token", f"{options.context}, {model.config.dim} wide")


if __name__ == "__main__":
    main()
