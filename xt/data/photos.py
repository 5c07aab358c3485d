"""How photographs are read in training: images that fit into memory many at a time, each read whole by a worker
process, resized to `model.image_size` and changed at random, by timm."""

from dataclasses import dataclass

from xt.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Photos:
    """Reading and random changes of photographs; fields that timm has are called as there."""

    workers: int = 4
    """Processes that read and decode ahead, >= 0; no more are started than there are cores. 0: the training process
    itself reads, between its steps."""
    scale: tuple[float, float] = (0.08, 1.0)
    """The random rectangle that a training image is cut to and resized from: least and largest share of the image's
    area, in (0, 1]. (1, 1) with `ratio` (1, 1) keeps as much of the image as is square."""
    ratio: tuple[float, float] = (0.75, 4 / 3)
    """Least and largest width over height of that rectangle, > 0."""
    hflip: float = 0.5
    """How probably a training image is mirrored left to right, in [0, 1]."""
    vflip: float = 0.0
    """How probably it is mirrored top to bottom, in [0, 1]."""
    color_jitter: float = 0.0
    """Largest relative change of brightness, contrast and saturation, in [0, 1]."""
    auto_augment: str | None = None
    """RandAugment, AutoAugment or AugMix as timm writes them, such as 'rand-m9-mstd0.5-inc1'."""
    mixup: float = 0.0
    """Alpha of mixup (Zhang et al. 2018), >= 0: images and targets of a batch mixed in pairs; classes only."""
    cutmix: float = 0.0
    """Alpha of CutMix (Yun et al. 2019), >= 0: a rectangle of another image pasted in; classes only."""
    mixup_prob: float = 1.0
    """How probably a batch is mixed at all, in [0, 1]."""
    mixup_switch_prob: float = 0.5
    """With both: how probably a mixed batch is mixed by CutMix, in [0, 1]."""

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ConfigError(f"data.photos.workers must be >= 0, got {self.workers}")
        for name in ("hflip", "vflip", "color_jitter", "mixup_prob", "mixup_switch_prob"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"data.photos.{name} must be in [0, 1], got {getattr(self, name)}")
        for name in ("mixup", "cutmix"):
            if getattr(self, name) < 0:
                raise ConfigError(f"data.photos.{name} must be >= 0, got {getattr(self, name)}")
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ConfigError(f"data.photos.scale must be two rising shares in (0, 1], got {self.scale}")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ConfigError(f"data.photos.ratio must be two rising numbers above 0, got {self.ratio}")
        if self.color_jitter and self.auto_augment is not None:
            raise ConfigError(
                "data.photos.color_jitter and auto_augment both change colours, and timm leaves the first out where "
                "there is the second: give one of them"
            )

    @property
    def mixes(self) -> bool:
        """Whether images of a batch are mixed."""
        return bool(self.mixup or self.cutmix)
