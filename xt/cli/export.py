"""`xt export MODEL --out DIR`: a model as graphs for machines without the code that trained it."""

import argparse
from pathlib import Path

from xt.cli.progress import ProgressBars

EXAMPLES = (
    "xt export runs/first --out first.exported",
    "xt export runs/first --format onnx --encoder-dtype bfloat16 --out first.onnx",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from xt.exporting.run import ENCODER_DTYPES, FORMATS

    parser.add_argument(
        "model", metavar="MODEL", help="a run folder, its model.safetensors, or a .ckpt of an unfinished run"
    )
    parser.add_argument(
        "--out", required=True, type=Path, metavar="DIR",
        help="the folder to write; an exported model that is there is replaced",
    )  # fmt: skip
    parser.add_argument(
        "--format", choices=FORMATS, default="pt2",
        help="pt2: graphs of torch.export, for PyTorch; onnx: for ONNX Runtime (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--compile", action="store_true",
        help="of pt2: machine code for this kind of processor, by AOTInductor and a C++ compiler; takes minutes",
    )  # fmt: skip
    parser.add_argument(
        "--encoder-dtype", choices=ENCODER_DTYPES,
        help="lay the region encoder's weights in this type first: smaller, and not quite the same answers",
    )  # fmt: skip
    parser.epilog = (
        "DIR gets region_encoder, context_encoder (none of a model without context) and head, and manifest.json. "
        "Predict with it as with a model: xt predict DIR FILES --out FOUND. docs/export.md tells which parts "
        "can be exported. Exit status: 0 written, 2 refused."
    )


def run(arguments: argparse.Namespace) -> int:
    from xt.exporting.run import export

    with ProgressBars() as bars:
        bar = bars.add("exporting", unit="parts")
        manifest = export(
            arguments.model,
            arguments.out,
            format=arguments.format,
            compile=arguments.compile,
            encoder_dtype=arguments.encoder_dtype,
            progress=lambda what, done, total: bar.update(done, total, what),
        )
    sizes = [(arguments.out / part["file"]).stat().st_size for part in manifest.parts.values()]
    print(
        f"wrote {arguments.out}: {', '.join(manifest.parts)}, {sum(sizes) / 1e6:,.1f} MB ({manifest.graphs})"
    )
    return 0
