"""`xt`: finds the subcommand, runs it, and turns its errors into one sentence and an exit status."""

import os
import shutil
import sys
import textwrap
import warnings
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

from xt import __version__
from xt.cli.busy import wait_passively
from xt.cli.parsers import CommandParser
from xt.cli.screen import fitted
from xt.errors import OptionError, XTError
from xt.registry import import_file, nearest_names

# What one wants -> name -> (module, what `xt --help` says). A module is imported only when its command was chosen:
# `xt info` does not wait for torch. It has `EXAMPLES`, `add_arguments(parser)` and `run(arguments) -> exit status`, or,
# if it parses by itself, `run_raw(argv) -> exit status`.
GROUPS = {
    "look": {
        "demo": ("xt.cli.demo", "small, real, end to end: make data, train, compare, predict a giant image"),
        "view": (
            "xt.cli.view",
            "open images in a browser, with all that a model says on top, and correct it",
        ),
        "info": ("xt.cli.info", "what an image is, its levels, how many regions and tokens it makes"),
        "check": (
            "xt.cli.check",
            "open every image and label of a table or folder: what is wrong or odd, before anything is trained",
        ),
        "doctor": ("xt.cli.doctor", "what this machine has for it, and what it lacks"),
    },
    "prepare": {
        "tile": (
            "xt.cli.tile",
            "write an image as a tiled, compressed pyramid that can be read by window at speed",
        ),
        "convert-labels": (
            "xt.cli.convert_labels",
            "turn Pascal VOC's and YOLO's boxes into COCO's JSON file",
        ),
        "plan": (
            "xt.cli.plan",
            "predicted memory and time of a model for an image, and the settings that fit",
        ),
        "encode": (
            "xt.cli.encode",
            "encode the regions of images once, to train context encoder and head from",
        ),
    },
    "train": {
        "recipes": ("xt.cli.recipes", "list the recipes for xt train, or show one to copy and change"),
        "train": ("xt.cli.train", "train a model on a table or a folder of images, end to end"),
        "compare": ("xt.cli.compare", "train down-sampling, cropping and xT on the same data: one table"),
    },
    "use": {
        "evaluate": ("xt.cli.evaluate", "measure a checkpoint on a table of labelled images"),
        "predict": (
            "xt.cli.predict",
            "predict images with a checkpoint: answers with relevance maps, masks, points, boxes",
        ),
    },
    "share": {
        "push": ("xt.cli.push", "put a model on the Hugging Face hub, with a card written from its run"),
        "export": (
            "xt.cli.export",
            "write a model as graphs that run without the code that trained it, for PyTorch or ONNX Runtime",
        ),
        "convert": (
            "xt.cli.convert",
            "turn the authors' weights, and runs of before, into what this library is now",
        ),
        "completion": ("xt.cli.completion", "a script for bash or zsh that completes commands on TAB"),
    },
}
COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}

OK, FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit status: 0 done, 1 partly done, 2 refused with a sentence, 130 interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    wait_passively()
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            status = _dispatch(arguments)
            sys.stdout.flush()
            return status
    except OptionError as error:
        return _refuse(error.as_typed)
    except XTError as error:
        return _refuse(str(error))
    except KeyboardInterrupt:
        print("xt: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output left, as in `xt info IMAGE | head -1`. Python must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _dispatch(arguments: list[str]) -> int:
    arguments = _with_parts(arguments)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview())
        return OK if arguments else REFUSED
    name, *rest = arguments
    if name in ("-V", "--version"):
        print(f"xt {__version__}")
        return OK
    if name not in COMMANDS:
        return _refuse(_unknown(name))
    module_name, summary = COMMANDS[name]
    return _run(import_module(module_name), name, summary, rest)


def _with_parts(arguments: list[str]) -> list[str]:
    """Imports the files that `--import` names, wherever it stands, and leaves it out."""
    left, words = [], iter(arguments)
    for word in words:
        if word == "--import":
            import_file(next(words, ""))
        elif word.startswith("--import="):
            import_file(word.removeprefix("--import="))
        else:
            left.append(word)
    return left


def _run(module: ModuleType, name: str, summary: str, rest: list[str]) -> int:
    try:
        if hasattr(module, "run_raw"):
            return int(module.run_raw(rest) or OK)
        parser = CommandParser(name, f"{summary[0].upper()}{summary[1:]}.", module.EXAMPLES)
        module.add_arguments(parser)
        return int(module.run(parser.parse_args(rest)) or OK)
    except SystemExit as leaving:
        # argparse leaves this way after --help and after a wrong option; it has already printed why.
        return leaving.code if isinstance(leaving.code, int) else OK if leaving.code is None else REFUSED


def _overview() -> str:
    width, columns = max(map(len, COMMANDS)), shutil.get_terminal_size().columns
    lines = []
    for group, commands in GROUPS.items():
        lines += ["", f"{group}:"]
        for name, (_, summary) in commands.items():
            head = f"  {name:<{width}}  "
            lines += textwrap.wrap(summary, columns, initial_indent=head, subsequent_indent=" " * len(head))
    return "\n".join(
        [
            "usage: xt COMMAND ...",
            "",
            "xT: extremely large images, modelled end to end.",
            *lines,
            "",
            "xt COMMAND --help tells a command's options, with examples; xt --version the version;",
            "xt COMMAND ... --import FILE.py knows the parts of your own that the file registers.",
        ]
    )


def _unknown(name: str) -> str:
    near = nearest_names(name, COMMANDS)
    if name.startswith("-"):
        return f"there is no option {name} before the command; see xt --help"
    hint = f"did you mean {near[0]}?" if near else f"the commands are {', '.join(COMMANDS)}."
    return f"there is no command {name}; {hint}"


def _refuse(message: str) -> int:
    print(fitted(f"xt: {message}", sys.stderr), file=sys.stderr)
    return REFUSED


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any, **__: Any
) -> None:
    # A user has no use for the line of our source that noticed something.
    if issubclass(category, UserWarning):
        print(fitted(f"xt: {message}", sys.stderr), file=sys.stderr)
    elif not issubclass(category, (DeprecationWarning, FutureWarning)):
        print(f"xt: {category.__name__}: {message} ({filename}:{lineno})", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
