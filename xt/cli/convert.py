"""`xt convert`: the authors' published weights as a file that says all about itself; runs of before as they are now."""

import argparse
import os
from pathlib import Path

from xt.errors import ConfigError

EXAMPLES = (
    "xt convert xt_swin.ckpt swin.safetensors --attention hyper",
    "xt convert runs/old runs/new",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint",
        type=Path,
        metavar="SOURCE",
        help="a checkpoint of the authors' xT; or a run folder, a .ckpt or a configuration of before `data` was "
        "divided by sources and tasks; nothing in it is executed",
    )
    parser.add_argument(
        "output", type=Path, metavar="OUT",
        help="what to write: a safetensors file of the authors' weights, all else as SOURCE is",
    )  # fmt: skip
    parser.add_argument(
        "--attention", choices=["hyper", "naive"],
        help="attention_method of the authors' configuration, which their tensors do not tell (their default: hyper)",
    )  # fmt: skip
    parser.add_argument(
        "--region-size", type=int, metavar="PIXELS",
        help="side of a region, where it is not what the authors' code has (256 for Swin-V2)",
    )  # fmt: skip
    parser.add_argument(
        "--pretrained-window", type=int, metavar="CELLS",
        help="window of the weights a Swin-V2 started from, where it is not what the authors' code has "
        "(12 for Swin-L, 0 for the others)",
    )  # fmt: skip
    parser.epilog = (
        "The authors' weights are then loaded by xt.load_authors_checkpoint(OUT), which maps a tensor (images, 3, "
        "size, size) to logits. Exit status: 0 written, 2 refused."
    )


def run(arguments: argparse.Namespace) -> int:
    source, output = arguments.checkpoint, arguments.output
    if output.exists() and source.exists() and os.path.samefile(source, output):
        raise ConfigError(f"{output} is the checkpoint itself: write to another file")
    # Only now, so that --help does not wait for torch.
    from xt.authors import load_authors_checkpoint
    from xt.training.conversion import convert_run

    if convert_run(source, output):
        print(f"wrote {output}")
        return 0
    model = load_authors_checkpoint(
        source,
        arguments.attention,
        region_size=arguments.region_size,
        pretrained_window=arguments.pretrained_window,
    )
    model.save(output)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"wrote {output}: {model.architecture}, {parameters / 1e6:.1f} M parameters")
    return 0
