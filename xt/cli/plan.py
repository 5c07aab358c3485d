"""`xt plan`: what a model takes for an image on a device, told before it is run."""

import argparse
import json
import re
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from xt.cli.parsers import a_number
from xt.cli.screen import fitted_columns
from xt.errors import ConfigError
from xt.images.names import is_there
from xt.recipes import is_configuration

if TYPE_CHECKING:
    from xt.images import LargeImage
    from xt.model.config import ModelConfig
    from xt.model.xt import XT
    from xt.region_encoders.trained import Schedule

# What belongs to a model that is made here.
_OF_MODELS = ("context", "region_size", "tokens_per_region", "dim", "encoder_dtype")

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
        help="a recipe, a configuration, a checkpoint or run folder, or a region encoder of timm or the hub",
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
    parser.add_argument(
        "--encoder-train", metavar="WHAT",
        help="what of the region encoder's network is trained, as optim.encoder_train says it: all, none, last:N, "
        "lora:RANK, dora:RANK, norm_and_bias (default: a configuration's own, else all)",
    )  # fmt: skip
    parser.add_argument(
        "--encoder-dtype", choices=("float32", "bfloat16", "int8", "float8"),
        help="type that the network's weights lie in, where none or adapters are trained",
    )  # fmt: skip
    parser.add_argument(
        "--checkpoint-activations", action="store_true",
        help="compute what lies inside the network's blocks again, as train.checkpoint_activations does",
    )  # fmt: skip
    parser.add_argument(
        "--share", type=float, default=1.0, metavar="SHARE",
        help="of the regions that hold something and are looked at, such as 0.2 of a slide (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--budget", type=a_number, metavar="B",
        help="of regions, in place of the model's own, as of xt predict: plain ones are seen coarsely",
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
    from xt.machine.devices import choose_device
    from xt.model.looking import looking_at
    from xt.planning.plan import plan
    from xt.prediction.choosing import choice_within

    image = _image(arguments.image)
    model = _model(arguments, image).train()
    with looking_at(model, choice_within(model, arguments.budget)):
        result = plan(
            model,
            image,
            arguments.device or choose_device(None),
            training=not arguments.inference,
            measure=arguments.measure,
            region_batch=arguments.region_batch,
            optimizer=arguments.optimizer,
            share=arguments.share,
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
    from xt.hub.place import local_path
    from xt.model.config import ModelConfig
    from xt.region_encoders.adapters import checkpoint_activations
    from xt.region_encoders.trained import Schedule
    from xt.training.encoder_stages import learn_most

    path = local_path(arguments.model)
    given = {name: getattr(arguments, name) for name in _OF_MODELS if getattr(arguments, name) is not None}
    train = (
        None
        if arguments.encoder_train is None
        else Schedule.parse(arguments.encoder_train, "--encoder-train")
    )
    if is_configuration(arguments.model):
        from xt.config.parser import load_config

        config = load_config(arguments.model)
        schedule = train or config.optim.schedule
        model = _made(replace(config.model, pretrained=False, **given), schedule)
        model.streaming = replace(model.streaming, region_batch=config.train.region_batch)
        again = arguments.checkpoint_activations or config.train.checkpoint_activations
    elif not path.exists():
        if not isinstance(image, tuple):
            given["in_channels"] = image.channels
        model = _made(ModelConfig(encoder=arguments.model, **given), train or Schedule.parse("all"))
        again = arguments.checkpoint_activations
    else:
        if given:
            raise ConfigError(
                f"{path} is a trained model: --{', --'.join(given).replace('_', '-')} cannot change it; name its "
                "region encoder instead of the file"
            )
        from xt.training.checkpoints import load_trained

        model, again = load_trained(path)[0], arguments.checkpoint_activations
        if train is not None:
            learn_most(model.region_encoder, train)
    if again:
        checkpoint_activations(model.region_encoder.network, model.region_encoder.name)
    return model


def _made(config: "ModelConfig", schedule: "Schedule") -> "XT":
    """A model without the weights that would be downloaded, of which the costliest part that is trained learns."""
    from xt.model.build import build_model
    from xt.region_encoders.cards import card_of
    from xt.region_encoders.hub import repository_of
    from xt.training.encoder_stages import learn_most

    card = card_of(repository_of(config.encoder))
    if card is not None:
        # Whether or not it may be fetched from where it lies.
        config = replace(config, encoder_origin=card.network, readout=config.readout or card.readout)
    adapter = schedule.adapter
    model = build_model(config if adapter is None else replace(config, adapter=str(adapter)))
    if not schedule.is_all:
        learn_most(model.region_encoder, schedule)
    return model
