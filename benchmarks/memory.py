"""Peak memory of a training step against the image's size, each point in a fresh process.

    python benchmarks/memory.py                     # convnext_atto, 256-pixel regions, region batch 4
    python benchmarks/memory.py --sizes 512 1024 2048 4096 8192 16384 --contexts whole none transformer_xl --plot

Prints the peak of the step and what it is above that of one region batch, in units of the bytes of the tokens and
their gradients. What one region batch takes is measured in the same process just before: steps on two region batches
each, so that the second finds the gradients of the first as every later one does, at places all over the image. The
context "whole" is the alternative: the same backbone on the whole image at once.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import GIVES_BACK, in_fresh_process, make_scene, peak_bytes, print_table, write_results

import xt
from xt.regions.grid import RegionGrid


def measure(
    scene: str, encoder: str, context: str, region_size: int, region_batch: int, keep: str
) -> dict[str, Any]:
    """One training step on one image, in this process."""
    torch.manual_seed(0)
    kind = "none" if context == "whole" else context
    model = xt.create_model(encoder, context=kind, region_size=region_size, num_classes=10)
    image = xt.open_image(scene)
    before = peak_bytes()
    streamed = {"region_batch": region_batch, "keep": keep}
    if context != "whole":
        for grid in small_grids(model.grid(image), 2 * region_batch):
            model.head.loss(model(image, grids=[grid], **streamed), torch.tensor([3])).backward()
            model.zero_grad()
    one_batch, start = peak_bytes(), time.perf_counter()
    logits = whole_image(model, image) if context == "whole" else model(image, **streamed)
    model.head.loss(logits, torch.tensor([3])).backward()
    seconds = time.perf_counter() - start
    regions = len(model.grid(image))
    tokens = regions * model.tokens_per_side**2
    token_bytes = tokens * model.config.dim * 4
    grown = peak_bytes() - one_batch
    return {
        "side": image.shape[0],
        "context": context,
        "regions": regions,
        "token_bytes": token_bytes,
        "peak_bytes": peak_bytes(),
        "step_bytes": peak_bytes() - before,
        "above one region batch": grown,
        "/ (tokens + gradients)": "" if context == "whole" else round(grown / (2 * token_bytes), 3),
        "seconds": round(seconds, 2),
    }


def small_grids(grid: RegionGrid, regions: int, places: int = 16) -> Iterator[RegionGrid]:
    """Some of the grid's regions at a time, at places all over it."""
    for start in np.linspace(0, max(0, len(grid) - regions), places).astype(int):
        mask = np.zeros((grid.rows, grid.columns), dtype=bool)
        mask[tuple(grid.cells[start : start + regions].T)] = True
        yield replace(grid, mask=mask)


def whole_image(model: xt.XT, image: xt.LargeImage) -> torch.Tensor:
    """The usual way: all pixels through the backbone in one pass."""
    pixels = torch.from_numpy(image.read(0, 0, *image.shape)).permute(2, 0, 1)[None]
    encoder = model.region_encoder
    features = encoder.network(encoder.scaling(pixels, None))[-1]
    return model.head(model.region_encoder.project(features.flatten(2).transpose(1, 2)))[0]


def plot(rows: list[dict[str, Any]], encoder: str, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    names = {"whole": f"{encoder} on the whole image", "none": "xt, region by region"}
    for context in dict.fromkeys(row["context"] for row in rows):
        mine = [row for row in rows if row["context"] == context]
        label = names.get(context, f"xt, context {context}")
        axes.plot([r["side"] for r in mine], [r["step_bytes"] / 2**30 for r in mine], "o-", label=label)
    axes.set(
        xlabel="side of the image, pixels",
        ylabel="memory of a training step, GiB",
        xscale="log",
        yscale="log",
    )
    sides = sorted({row["side"] for row in rows})
    axes.set_xticks(sides, [f"{side:,}" for side in sides], minor=False)
    axes.set_yticks(ticks := [0.25, 0.5, 1, 2, 4], [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[2048, 4096, 8192, 16384])
    parser.add_argument("--contexts", nargs="+", default=["none", "transformer_xl"])
    parser.add_argument("--encoder", default="convnext_atto")
    parser.add_argument("--region-size", type=int, default=256)
    parser.add_argument("--region-batch", type=int, default=4)
    parser.add_argument("--keep", default="none")
    parser.add_argument(
        "--whole-up-to", type=int, default=4096, help="side beyond which the whole image is not tried"
    )
    parser.add_argument("--plot", action="store_true", help="also draw docs/memory.png")
    parser.add_argument("--name", default="memory", help="of the file of results")
    parser.add_argument("--scenes", type=Path, help="folder to keep the images in; default: a temporary one")
    parser.add_argument("--point", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point is not None:
        print(json.dumps(measure(**options.point)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.scenes or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for context in options.contexts:
            for size in options.sizes:
                if context == "whole" and size > options.whole_up_to:
                    continue
                scene = make_scene(folder / f"{size}.tif", size)
                rows.append(in_fresh_process(
                    __file__, GIVES_BACK, scene=str(scene), encoder=options.encoder, context=context,
                    region_size=options.region_size, region_batch=options.region_batch, keep=options.keep,
                ))  # fmt: skip
                print_table(rows[-1:])
    print()
    print_table(rows)
    if options.plot:
        plot(rows, options.encoder, Path(__file__).parents[1] / "docs" / "memory.png")
    path = write_results(options.name, rows, encoder=options.encoder, region_batch=options.region_batch)
    print(f"\nwritten to {path}")


if __name__ == "__main__":
    main()
