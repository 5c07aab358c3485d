"""A norm over the channels of maps."""

import torch.nn.functional as F
from torch import Tensor, nn


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of (regions, channels, height, width), at each place for itself.

    As timm's, which a machine that only runs exported models has not.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, maps: Tensor) -> Tensor:
        last = maps.permute(0, 2, 3, 1)
        return F.layer_norm(last, self.normalized_shape, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)
