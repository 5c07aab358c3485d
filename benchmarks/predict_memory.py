"""Peak memory of predicting masks against the image's size, each point in a fresh process.

    python benchmarks/predict_memory.py            # convnext_atto, 256-pixel regions, 4,096 and 16,384 pixels a side

From the file to the Cloud-Optimised GeoTIFF. Nothing of the image's size is held but its tokens, before and behind the
context encoder: the last column is the peak without these, over that of the first size.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import GIVES_BACK, in_fresh_process, make_scene, peak_bytes, print_table, write_results

import xt


def measure(scene: str, encoder: str, context: str, region_size: int, region_batch: int) -> dict[str, Any]:
    """One prediction, in this process."""
    torch.manual_seed(0)
    model = xt.create_model(
        encoder, context=context, head="segmentation", num_classes=2, region_size=region_size
    )
    image = xt.open_image(scene)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        predictor = xt.DensePredictor(model, streaming=xt.Streaming(region_batch=region_batch))
        predictor.predict(image, Path(folder) / "found")
    tokens = len(model.grid(image)) * model.tokens_per_side**2
    return {
        "side": image.shape[0],
        "context": context,
        "token_MB": 0.0 if context == "none" else round(2 * tokens * model.config.dim * 4 / 1e6, 1),
        "peak_MB": round(peak_bytes() / 1e6, 1),
        "seconds": round(time.perf_counter() - start, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[4096, 16384])
    parser.add_argument("--contexts", nargs="+", default=["none", "transformer_xl"])
    parser.add_argument("--encoder", default="convnext_atto")
    parser.add_argument("--region-size", type=int, default=256)
    parser.add_argument("--region-batch", type=int, default=8)
    parser.add_argument("--scenes", type=Path, help="folder to keep the images in; default: a temporary one")
    parser.add_argument("--point", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point is not None:
        print(json.dumps(measure(**options.point)))
        return
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.scenes or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for context in options.contexts:
            first = 0.0
            for size in options.sizes:
                row = in_fresh_process(
                    __file__, GIVES_BACK, scene=str(make_scene(folder / f"{size}.tif", size)),
                    encoder=options.encoder, context=context, region_size=options.region_size,
                    region_batch=options.region_batch,
                )  # fmt: skip
                alone = row["peak_MB"] - row["token_MB"]
                first = first or alone
                rows.append(row | {"without tokens, of the first": round(alone / first, 3)})
                print_table(rows[-1:])
    print()
    print_table(rows)
    print(f"\nwritten to {write_results('predict_memory', rows, options=vars(options) | {'scenes': None})}")


if __name__ == "__main__":
    main()
