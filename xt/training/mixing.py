"""Mixup and CutMix of a batch of photographs, by timm, on the batch's own device."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from xt.data.photo_dataset import seeded
from xt.data.photos import Photos
from xt.errors import ConfigError
from xt.region_encoders.scaling import unit_scale


class Mixing:
    """Mixes images and their targets in pairs: the first with the last, and so on, all by one share that is drawn.

    Of an odd number of images the last stays as it is. Label smoothing is left to the head's loss, which gives for a
    mixed target what timm's gives.

    Args:
        num_classes: K.
    Raises:
        ConfigError: nothing is to be mixed.
    """

    def __init__(self, photos: Photos, num_classes: int) -> None:
        from timm.data import Mixup

        if not photos.mixes:
            raise ConfigError("data.photos.mixup and cutmix are both 0, so there is nothing to mix")
        self.num_classes = num_classes
        self._mix = Mixup(
            mixup_alpha=photos.mixup,
            cutmix_alpha=photos.cutmix,
            prob=photos.mixup_prob,
            switch_prob=photos.mixup_switch_prob,
            label_smoothing=0.0,
            num_classes=num_classes,
        )

    def __call__(self, images: Tensor, targets: Tensor, seed: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Mix a batch; the tensors that come stay as they are.

        Args:
            images: (B, C, height, width), in their own type.
            targets: (B,) class numbers.
            seed: numbers that decide what is drawn.

        Returns:
            (B, C, height, width) float32 in unit scale, and (B, K) each class's share of it.
        """
        # Half a byte would be lost, and timm writes into what it is given.
        mixed = images.float() / unit_scale(images.dtype)
        shares = F.one_hot(targets, self.num_classes).float()
        even = len(images) // 2 * 2
        if even:
            with seeded(*seed):
                pairs, pair_shares = self._mix(mixed[:even], targets[:even])
            mixed, shares = torch.cat([pairs, mixed[even:]]), torch.cat([pair_shares, shares[even:]])
        return mixed, shares
