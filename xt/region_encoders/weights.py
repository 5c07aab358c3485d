"""Weights of a region encoder's network from elsewhere: a pretraining's, another model's, a feature store's."""

from collections.abc import Mapping
from os import PathLike

from torch import Tensor

from xt.errors import CheckpointError
from xt.region_encoders.base import RegionEncoder

# Under which a network's own names may stand: in a whole model, a region encoder, a pretraining, or bare.
_PREFIXES = ("region_encoder.backbone.", "backbone.", "encoder.", "")


def take_weights(
    encoder: RegionEncoder, tensors: Mapping[str, Tensor], source: str | PathLike[str]
) -> tuple[Tensor, Tensor] | None:
    """Put weights into the network; whatever else is among the tensors is left out.

    Args:
        tensors: under the network's names (for timm those of its feature-map form), bare or behind `backbone.`,
            `encoder.` or `region_encoder.backbone.`, as in a whole model.
        source: where they are from, for messages.

    Returns:
        Mean and standard deviation of the pixels that the network has learned from, where these are there, too.

    Raises:
        CheckpointError: they are not of such a network.
    """
    wanted = encoder.network.state_dict()
    prefix = max(_PREFIXES, key=lambda prefix: sum(prefix + name in tensors for name in wanted))
    found = {name: tensors[prefix + name] for name in wanted if prefix + name in tensors}
    wrong = [name for name, value in wanted.items() if name not in found or found[name].shape != value.shape]
    if wrong:
        shape = "missing" if wrong[0] not in found else f"of shape {tuple(found[wrong[0]].shape)}"
        raise CheckpointError(
            f"{source} does not hold the weights of the region encoder {encoder.name!r}: {len(wrong)} of "
            f"{len(wanted)} do not fit, such as {wrong[0]}, which is {shape} instead of "
            f"{tuple(wanted[wrong[0]].shape)}; check model.encoder, model.encoder_options and model.in_channels"
        )
    encoder.network.load_state_dict(found)
    outer = prefix.removesuffix("backbone.")
    mean, std = tensors.get(f"{outer}scaling.mean"), tensors.get(f"{outer}scaling.std")
    if mean is None or std is None or mean.shape != encoder.scaling.mean.shape:
        return None
    return mean, std
