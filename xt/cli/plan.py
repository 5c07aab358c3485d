"""`xt plan`: what a model takes for an image on a device, told before it is run."""

import argparse
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from xt.cli.screen import fitted_columns
from xt.errors import ConfigError
from xt.images.names import is_there
from xt.recipes import is_configuration

if TYPE_CHECKING:
    from xt.images import LargeImage
    from xt.model.xt import XT


EXAMPLES = (
    "xt plan --model classification --image 29000x25000 --device 40GB",
    "xt plan --model runs/first --image slides/one.tif --inference",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--image", required=True, metavar="SIZE_OR_FILE",
        help="height x width in pixels, such as 29000x25000, or an image file",
    )  # fmt: skip
    parser.add_argument(
        "--model", required=True, metavar="MODEL",
        help="a recipe, a configuration, a checkpoint or run folder, or the name of a region encoder in timm",
    )  # fmt: skip
    parser.add_argument("--context", metavar="NAME", help="context encoder, with a name from timm")
    parser.add_argument(
        "--region-size", type=int, metavar="PIXELS", help="side of a region, with a name from timm"
    )
    parser.add_argument(
        "--tokens-per-region", type=int, metavar="N", help="1, 4, 16 ..., with a name from timm"
    )
    parser.add_argument("--dim", type=int, metavar="N", help="width of the tokens, with a name from timm")
    parser.add_argument(
        "--device", metavar="DEVICE",
        help="cpu, cuda, cuda:1, or the memory of a device that is not here, such as 40GB (default: a GPU if there is "
        "one, else the CPU)",
    )  # fmt: skip
    parser.add_argument("--region-batch", type=int, metavar="N", help="regions on the device at one time")
    parser.add_argument(
        "--optimizer", choices=("none", "sgd", "adamw"), default="none",
        help="whose state training keeps (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--inference", action="store_true", help="do not plan training")
    parser.add_argument(
        "--measure", action="store_true", help="run a few region batches on the device for better times"
    )
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")
    parser.epilog = "Exit status: 0 it fits, 1 it does not, 2 refused."


def run(arguments: argparse.Namespace) -> int:
    from xt.planning.plan import plan
    from xt.prediction.predictor import choose_device

    image = _image(arguments.image)
    model = _model(arguments, image).train()
    result = plan(
        model,
        image,
        arguments.device or choose_device(None),
        training=not arguments.inference,
        measure=arguments.measure,
        region_batch=arguments.region_batch,
        optimizer=arguments.optimizer,
    )
    as_text = fitted_columns(str(result), sys.stdout)
    print(json.dumps(result.as_dict(), indent=1) if arguments.json else as_text)
    return 0 if any(step.fits for step in result.steps[-3:]) else 1


def _image(text: str) -> "tuple[int, int] | LargeImage":
    """A size, or a file."""
    from xt.images import open_image, stack_parts

    size = re.fullmatch(r"(\d+)\s*[xX×]\s*(\d+)", text.strip())
    if size is None:
        if not all(is_there(part) for part in stack_parts(text)):
            raise ConfigError(
                f"--image {text}: expected height x width such as 29000x25000, or an image file"
            )
        return open_image(text)
    height, width = int(size[1]), int(size[2])
    if min(height, width) < 1:
        raise ConfigError(f"--image {text}: an image has at least one pixel")
    return height, width


def _model(arguments: argparse.Namespace, image: "tuple[int, int] | LargeImage") -> "XT":
    """The model that is meant; one that is only named takes the image's channels."""
    from xt.model.build import build_model
    from xt.model.config import ModelConfig

    path = Path(arguments.model)
    given = {
        name: getattr(arguments, name)
        for name in ("context", "region_size", "tokens_per_region", "dim")
        if getattr(arguments, name) is not None
    }
    if is_configuration(arguments.model):
        from xt.config.parser import load_config

        config = load_config(arguments.model)
        model = build_model(replace(config.model, pretrained=False, **given))
        region_batch = config.train.region_batch
        model.streaming = replace(model.streaming, region_batch=region_batch)
        return model
    if not path.exists():
        if not isinstance(image, tuple):
            given["in_channels"] = image.channels
        return build_model(ModelConfig(encoder=arguments.model, **given))
    if given:
        raise ConfigError(
            f"{path} is a trained model: --{', --'.join(given).replace('_', '-')} cannot change it; name its region "
            "encoder instead of the file"
        )
    from xt.training.checkpoints import load_trained

    return load_trained(path)[0]
