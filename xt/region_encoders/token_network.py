"""timm's networks whole: feature maps, the last of them behind the network's own norm, and the class token."""

from typing import Any, NamedTuple

from torch import Tensor, nn

# What a model does with the vector it is meant to give; none of it is asked for here.
_OF_ANSWERS = ("head", "head_dist", "head_drop", "aux_head", "attn_pool")
# Of networks whose maps all have one stride.
_LAST_BLOCKS = 3


class Found(NamedTuple):
    """What a network makes of regions.

    Attributes:
        maps: (regions, channels, side, side) each, finest first.
        class_token: (regions, channels), None if the network has none.
    """

    maps: list[Tensor]
    class_token: Tensor | None


class TokenNetwork(nn.Module):
    """A timm model that can tell its maps on the way.

    Args:
        model: with `forward_intermediates`; what it answers with is taken away.
        indices: which maps; None for all that have strides of their own, or of the last blocks.
    """

    def __init__(self, model: Any, indices: list[int] | int | None = None) -> None:
        super().__init__()
        for name in _OF_ANSWERS:
            if isinstance(getattr(model, name, None), nn.Module):
                setattr(model, name, nn.Identity())
        self.model = model
        self.class_tokens = 2 if hasattr(model, "head_dist") else 1
        self.channels_last: bool = getattr(model, "output_fmt", "NCHW") == "NHWC"
        strides = [info["reduction"] for info in model.feature_info]
        if indices is None:
            indices = list(range(len(strides)))[-_LAST_BLOCKS if len(set(strides)) == 1 else 0 :]
        elif isinstance(indices, int):
            indices = list(range(len(strides)))[-indices:]
        self.indices = [index % len(strides) for index in indices]
        self.strides = [strides[index] for index in self.indices]

    def forward(self, pixels: Tensor) -> Found:
        last, maps = self.model.forward_intermediates(pixels, indices=self.indices, output_fmt="NCHW")
        if last.dim() == 4:
            return Found([*maps[:-1], last.permute(0, 3, 1, 2) if self.channels_last else last], None)
        height, width = maps[-1].shape[2:]
        others = last.shape[1] - height * width
        if others < 0:
            # Of some nothing but the class token comes out.
            return Found(maps, last[:, : self.class_tokens].mean(1))
        # Of two class tokens, one of them distilled, timm takes the mean.
        class_token = last[:, : self.class_tokens].mean(1) if others else None
        cells = last[:, others:].transpose(1, 2).unflatten(2, (height, width))
        return Found([*maps[:-1], cells], class_token)

    def after_pooling(self, features: Tensor) -> Tensor:
        """The norm of networks that were trained on the mean of their cells, which stands behind it."""
        norm = getattr(self.model, "fc_norm", None)
        return features if norm is None else norm(features)


def has_own_norm_or_class_token(model: Any) -> bool:
    """Whether there is more to a timm model's tokens than the last map on the way.

    Convolutional networks have none of it, and of those that norm what they have pooled the norm of
    `RegionEncoder` stands in that place.
    """
    if not hasattr(model, "forward_intermediates") or not isinstance(
        getattr(model, "feature_info", None), list
    ):
        return False
    norms = (getattr(model, name, None) for name in ("norm", "fc_norm"))
    has_norm = any(isinstance(norm, nn.Module) and not isinstance(norm, nn.Identity) for norm in norms)
    return has_norm or getattr(model, "num_prefix_tokens", 0) > 0
