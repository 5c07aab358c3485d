"""What a mask of 100,000 polygons costs beside the encoder that learns from it, and what memory it takes.

    python benchmarks/polygon_masks.py --threads 1

Outlines of cells, 40 corners each, in 20 classes, a tenth of them with a hole, and three of tissue with 100,000 corners
beneath them. Time: of each region the mask is drawn, then the region encoder runs forwards, and forwards and backwards;
medians of the same regions, interleaved. Memory: peak of a process that draws all regions of a row through an image of
that side, with the same polygons spread over it.
"""

import argparse
import json
import statistics
import time
from typing import Any

import numpy as np
import shapely
import torch
from common import GIVES_BACK, in_fresh_process, peak_bytes, print_table, write_results

import xt
from xt.images.polygons import PolygonImage, Polygons


def outlines(count: int, side: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(N,) polygons spread over an image, and their class numbers."""
    generator = np.random.default_rng(seed)
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    radii = generator.uniform(6, 14, (count, 1)) * generator.uniform(0.8, 1.2, (count, 40))
    centres = generator.uniform(0, side, (count, 2, 1))
    corners = np.stack(
        [centres[:, 0] + radii * np.cos(angles), centres[:, 1] + radii * np.sin(angles)], axis=2
    )
    cells = shapely.polygons(corners)
    holed = slice(0, count // 10)
    cells[holed] = shapely.difference(cells[holed], shapely.buffer(shapely.points(centres[holed, :, 0]), 3))
    angles = np.linspace(0, 2 * np.pi, 100_000, endpoint=False)
    tissue = [
        shapely.Polygon(
            np.stack([middle + radius * np.cos(angles), middle + radius * np.sin(angles)], axis=1)
            * generator.uniform(0.999, 1.001, (len(angles), 1))
        )
        for middle, radius in ((side / 3, side / 5), (side / 2, side / 3), (side / 1.6, side / 4))
    ]
    polygons = np.concatenate([cells, np.array(tissue, object)])
    return polygons, generator.integers(0, 20, len(polygons))


def mask_of(count: int, side: int) -> tuple[PolygonImage, float]:
    """The mask, and how many seconds it took to make ready for reading."""
    polygons, classes = outlines(count, side)
    image = xt.open_image(np.broadcast_to(np.zeros(1, np.uint8), (side, side)))
    start = time.perf_counter()
    drawn = Polygons(polygons, classes, -shapely.area(polygons))
    return PolygonImage("polygons", drawn, image), time.perf_counter() - start


def measure_time(encoder: str, count: int, side: int, regions: int, device: str) -> dict[str, Any]:
    mask, ready = mask_of(count, side)
    model = xt.create_model(encoder, head="segmentation", num_classes=20, region_size=256, context="none").to(
        device
    )
    backbone = model.region_encoder.network
    pixels = torch.rand(1, 3, 256, 256, device=device)
    generator = np.random.default_rng(1)
    times: dict[str, list[float]] = {"draw": [], "forward": [], "step": []}

    def timed(name: str, work: Any) -> None:
        start = time.perf_counter()
        work()
        if device != "cpu":
            torch.cuda.synchronize()
        times[name].append(time.perf_counter() - start)

    def step() -> None:
        sum(part.sum() for part in backbone(pixels)).backward()

    for number in range(regions + 3):
        y, x = generator.integers(0, side - 256, 2).tolist()
        timed("draw", lambda y=y, x=x: mask.read(y, x, 256, 256))
        with torch.inference_mode():
            timed("forward", lambda: backbone(pixels))
        timed("step", step)
        if number == 2:
            # The first ones warm up.
            for values in times.values():
                values.clear()
    milliseconds = {name: 1e3 * statistics.median(values) for name, values in times.items()}
    return {
        "encoder": encoder,
        "polygons": count,
        "side": side,
        "in_a_region": round(count * (256 / side) ** 2, 1),
        "ready_s": round(ready, 2),
        **{f"{name}_ms": round(value, 2) for name, value in milliseconds.items()},
        "draw_over_forward": milliseconds["draw"] / milliseconds["forward"],
        "draw_over_step": milliseconds["draw"] / milliseconds["step"],
    }


def measure_memory(count: int, side: int) -> dict[str, Any]:
    mask, _ = mask_of(count, side)
    before = peak_bytes()
    for x in range(0, side - 256, 256):
        mask.read(side // 2, x, 256, 256)
    return {
        "polygons": count,
        "side": side,
        "peak_MB": peak_bytes() / 1e6,
        "by_drawing_MB": (peak_bytes() - before) / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoders", nargs="+", default=["convnext_atto", "convnext_tiny"])
    parser.add_argument("--polygons", type=int, default=100_000)
    parser.add_argument("--sides", type=int, nargs="+", default=[10_000, 40_000])
    parser.add_argument("--memory-sides", type=int, nargs="+", default=[4_000, 64_000])
    parser.add_argument("--regions", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--point", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.point is not None:
        print(json.dumps(measure_memory(**options.point)))
        return
    times = [
        measure_time(encoder, options.polygons, side, options.regions, options.device)
        for encoder in options.encoders
        for side in options.sides
    ]
    print_table(times)
    memory = [
        in_fresh_process(__file__, GIVES_BACK, count=options.polygons, side=side)
        for side in options.memory_sides
    ]
    print_table(memory)
    print(f"\nwrote {write_results('polygon_masks', times, device=options.device, memory=memory)}")


if __name__ == "__main__":
    main()
