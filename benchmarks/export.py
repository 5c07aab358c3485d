"""Exported models beside those that they were made from: answers, memory and time; and what coarser weights cost.

    python benchmarks/export.py SLIDE              # three models on a real slide, each run in a fresh process
    python benchmarks/export.py SLIDE --graphs pt2 compiled
    python benchmarks/export.py --digits FOLDER    # accuracy with weights in bfloat16 and int8, on MNIST's files

Models of the first have weights at random: rounding is what is asked about. `apart` is the largest difference between
what the two heads say, of any logit or pixel. Times are the processor's, of `xt predict` without loading: the lesser of
two runs each, model and export by turns.
"""

import argparse
import gzip
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import in_fresh_process, peak_bytes, print_table, write_results

import xt
from xt.exporting.loading import load_exported

MODELS = [("mamba2", "classification"), ("transformer_xl", "segmentation"), ("multiscale", "detection")]
_DIGITS, _TESTED, _SIDE = 60_000, 2_000, 32
_ROUNDS = 2


def made(context: str, head: str) -> xt.XT:
    torch.manual_seed(0)
    return xt.create_model(
        "convnext_atto", context=context, head=head, num_classes=3, region_size=256, dim=192
    ).eval()


def write(context: str, head: str, folder: str, graphs: str) -> dict[str, Any]:
    """The model and its export, in this process."""
    model, start = made(context, head), time.process_time()
    model.save(Path(folder) / "model.safetensors")
    xt.export(
        model,
        Path(folder) / "exported",
        format="onnx" if graphs == "onnx" else "pt2",
        compile=graphs == "compiled",
    )
    return {"seconds": round(time.process_time() - start, 1)}


def predict(folder: str, what: str, slide: str, turn: int) -> dict[str, Any]:
    """`xt.predict` of one of the two, in this process; then, once, what its head says, for comparison."""
    path = Path(folder) / what
    model = load_exported(path)[0] if path.is_dir() else xt.load_model(path)
    start = time.process_time()
    result = xt.predict(model, slide, Path(folder) / f"found {what} {turn}", overlay=False)
    assert not result.failed, result.failed
    row = {"seconds": time.process_time() - start, "peak_MB": float(f"{peak_bytes() / 1e6:.1f}")}
    image, said = xt.open_image(slide), []
    row["tokens"] = len(model.grid(image)) * model.tokens_per_side**2
    if turn:
        return row
    model.eval()
    if model.dense_head is None:
        said.append(torch.from_numpy(xt.Predictor(model).predict(image).logits))
    else:
        for _ in model.decode(image, on_predictions=lambda _, found: said.append(found)):
            pass
    np.save(Path(folder) / f"{path.stem}.npy", torch.cat(said).numpy())
    return row


def compared(slide: str, context: str, head: str, graphs: str) -> dict[str, Any]:
    whats = ("model.safetensors", "exported")
    with tempfile.TemporaryDirectory() as folder:
        exporting = in_fresh_process(
            __file__, do="write", context=context, head=head, folder=folder, graphs=graphs
        )
        rounds = [
            [
                in_fresh_process(__file__, do="predict", folder=folder, what=what, slide=slide, turn=turn)
                for what in whats
            ]
            for turn in range(_ROUNDS)
        ]
        one, other = (np.load(Path(folder) / f"{Path(what).stem}.npy") for what in whats)
    seconds, peaks = (
        [min(runs[key] for runs in of_one) for of_one in zip(*rounds, strict=True)]
        for key in ("seconds", "peak_MB")
    )
    return {
        "run": f"{context}, {head}, {graphs}",
        "context": context,
        "head": head,
        "graphs": graphs,
        "tokens": rounds[0][0]["tokens"],
        "apart": float(np.abs(one - other).max()),
        "largest": float(np.abs(one).max()),
        "peak_MB": peaks[0],
        "exported_MB": peaks[1],
        "share": round(peaks[1] / peaks[0], 3),
        "processor_seconds": round(seconds[0], 1),
        "exported_processor_seconds": round(seconds[1], 1),
        "time": round(seconds[1] / seconds[0], 3),
        "export_processor_seconds": exporting["seconds"],
    }


def digits(folder: Path, name: str, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(count, 1, 32, 32) pictures and their digits."""
    with gzip.open(folder / f"{name}-images-idx3-ubyte.gz") as file:
        pictures = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)[:count]
    with gzip.open(folder / f"{name}-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)[:count]
    padded = np.pad(pictures, ((0, 0), (0, 0), (2, 2), (2, 2)))
    return torch.from_numpy(padded), torch.from_numpy(labels.astype(np.int64))


def reader() -> xt.XT:
    return xt.create_model(
        "convnext_atto", context="none", num_classes=10, region_size=_SIDE, in_channels=1, dim=64,
        encoder_options={"depths": (1, 1, 2, 1), "dims": (24, 48, 96, 128), "conv_mlp": False},
    )  # fmt: skip


def trained(folder: Path) -> xt.XT:
    """A small ConvNeXt that reads digits, trained for one pass over 60,000 of them."""
    torch.manual_seed(0)
    model = reader()
    pictures, labels = digits(folder, "train", _DIGITS)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    steps = list(torch.randperm(_DIGITS).split(64))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=len(steps))
    for some in steps:
        optimiser.zero_grad()
        model.loss(pictures[some], labels[some], region_batch=64, keep="all").backward()
        optimiser.step()
        schedule.step()
    return model.eval()


def coarser(folder: Path) -> list[dict[str, Any]]:
    """Accuracy on 2,000 digits by exports with weights in each type."""
    model, rows = trained(folder), []
    pictures, labels = digits(folder, "t10k", _TESTED)
    state, logits = model.state_dict(), []
    with tempfile.TemporaryDirectory() as temporary:
        for dtype in (None, "bfloat16", "int8"):
            fresh = reader()
            fresh.load_state_dict(state)
            xt.export(fresh, Path(temporary) / "exported", encoder_dtype=dtype)
            exported, _ = load_exported(Path(temporary) / "exported")
            with torch.no_grad():
                logits.append(torch.cat([exported(picture[None]) for picture in pictures]))
            rows.append(
                {
                    "weights": dtype or "float32",
                    "accuracy": round(float((logits[-1].argmax(1) == labels).double().mean()), 4),
                    "changed": int((logits[-1].argmax(1) != logits[0].argmax(1)).sum()),
                    "apart": round(float((logits[-1].softmax(1) - logits[0].softmax(1)).abs().max()), 4),
                    "encoder_kB": round(
                        (Path(temporary) / "exported/region_encoder.pt2").stat().st_size / 1e3
                    ),
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("slide", nargs="?")
    parser.add_argument("--graphs", nargs="+", default=["pt2"], choices=["pt2", "compiled", "onnx"])
    parser.add_argument("--contexts", nargs="+", default=[context for context, _ in MODELS])
    parser.add_argument("--digits", type=Path)
    parser.add_argument("--point", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point is not None:
        do = options.point.pop("do")
        print(json.dumps({"write": write, "predict": predict}[do](**options.point)))
        return
    notes: dict[str, Any] = {"slide": Path(options.slide).name if options.slide else None}
    if options.digits is not None:
        rows, name = coarser(options.digits), "export_digits"
    else:
        name, rows = "export", []
        for graphs in options.graphs:
            for context in options.contexts:
                head = dict(MODELS)[context]
                rows.append(compared(options.slide, context, head, graphs))
                print_table(rows[-1:])
                write_results(name, rows, **notes)
    print()
    print_table(rows)
    print(f"\nwritten to {write_results(name, rows, **notes)}")


if __name__ == "__main__":
    main()
