"""Networks of one's own, as small as can be, that give maps or tokens of regions of 32 pixels."""

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn


class Maps(nn.Module):
    """Two maps, at strides 4 and 8.

    Args:
        layout: where channels stand, "first" or "last".
        form: in which the maps come: list, tuple or OrderedDict.
    """

    def __init__(self, in_channels: int = 3, layout: str = "first", form: Any = list) -> None:
        super().__init__()
        self.stem = nn.Conv2d(in_channels, 6, 4, 4)
        self.stages = nn.ModuleList([nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 10, 2, 2)])
        self.dropout = nn.Dropout(0.2)
        self.layout, self.form = layout, form

    def forward(self, pixels: Tensor) -> Any:
        fine = self.dropout(self.stages[0](self.stem(pixels)).relu())
        maps = [fine, self.stages[1](fine)]
        if self.layout == "last":
            maps = [features.permute(0, 2, 3, 1) for features in maps]
        if self.form is OrderedDict:
            return OrderedDict(zip(("a", "b"), maps, strict=True))
        return self.form(maps)


class Tokens(nn.Module):
    """One block over patches of 8 pixels, behind some tokens more; positions are of the patches' sines."""

    def __init__(self, in_channels: int = 3, dim: int = 8, extra: int = 1) -> None:
        super().__init__()
        self.patches = nn.Conv2d(in_channels, dim, 8, 8)
        self.extra = nn.Parameter(torch.randn(1, extra, dim)) if extra else None
        self.blocks = nn.ModuleList(
            [nn.TransformerEncoderLayer(dim, 2, 16, 0.1, batch_first=True) for _ in range(2)]
        )

    def forward(self, pixels: Tensor) -> Tensor:
        tokens = self.patches(pixels).flatten(2).transpose(1, 2)
        if self.extra is not None:
            tokens = torch.cat([self.extra.expand(len(tokens), -1, -1), tokens], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        return tokens
