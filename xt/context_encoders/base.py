"""What every context encoder is: a sequence model over all tokens of an image, whatever their number."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from xt.errors import ShapeError


class ContextEncoder(nn.Module, ABC):
    """Tokens of whole images in, tokens of the same shape out, each having seen the others (xT, section 3.3).

    A subclass implements `encode` for images of one length and never sees padding: images of a padded batch are
    gathered by their true length and run without it, so a masked token changes nothing, exactly.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    @abstractmethod
    def encode(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Encode images of one length: (B, L, D) and (B, L, 2) to (B, L, D)."""

    def encode_any(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """`encode` for one image, (1, L, D), as a graph that holds for every L: what torch.export follows.

        The same to rounding, without gradients. Here it is `encode`, which is right where nothing in it, such as the
        number of turns of a loop, depends on L.

        Raises:
            ConfigError: this encoder cannot be written so.
        """
        return self.encode(tokens, positions)

    def forward(self, tokens: Tensor, positions: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode the tokens of B images.

        Args:
            tokens: (B, L, D), in the order of the grid.
            positions: (B, L, 2), y and x of each token's centre in pixels of the full image.
            mask: (B, L), True for tokens that are there; None for all.

        Returns:
            (B, L, D), zero where masked.

        Raises:
            ShapeError: the shapes do not fit each other or this encoder's width.
        """
        self._check(tokens, positions, mask)
        if torch.compiler.is_exporting():
            return self._exported(tokens, positions, mask)
        if not tokens.numel():
            return tokens
        if not positions.is_floating_point():
            positions = positions.float()
        if mask is None or bool(mask.all()):
            return self.encode(tokens, positions)
        lengths = mask.sum(dim=1)
        result = torch.zeros_like(tokens)
        for length in lengths.unique().tolist():
            images = lengths == length
            if length:
                there = mask & images[:, None]
                shape = (int(images.sum()), length, -1)
                encoded = self.encode(tokens[there].view(shape), positions[there].view(shape))
                result = result.masked_scatter(there[..., None], encoded.to(result.dtype))
        return result

    def _exported(self, tokens: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
        if len(tokens) != 1 or mask is not None:
            raise ShapeError(
                f"a context encoder is exported for one image at a time, without a mask, got {len(tokens)} images"
            )
        with torch.no_grad():
            return self.encode_any(tokens, positions)

    def _check(self, tokens: Tensor, positions: Tensor, mask: Tensor | None) -> None:
        if tokens.dim() != 3 or tokens.shape[2] != self.dim:
            raise ShapeError(
                f"expected tokens of shape (images, length, {self.dim}), got {tuple(tokens.shape)}"
            )
        if positions.shape != (*tokens.shape[:2], 2):
            raise ShapeError(
                f"tokens of shape {tuple(tokens.shape)} need positions of shape "
                f"{(*tokens.shape[:2], 2)}, got {tuple(positions.shape)}"
            )
        if mask is not None and mask.shape != tokens.shape[:2]:
            raise ShapeError(f"expected a mask of shape {tuple(tokens.shape[:2])}, got {tuple(mask.shape)}")
