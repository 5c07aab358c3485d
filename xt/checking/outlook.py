"""What `xt train` would do with images, and what that would cost."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from xt.config.run import RunConfig
from xt.errors import XTError
from xt.planning.plan import plan

if TYPE_CHECKING:
    from xt.model.xt import XT


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """A run before it begins.

    Attributes:
        regions: of the middle and of the largest of what a step is given: an image, or a window of one.
        tokens: likewise.
        windows: of each image in an epoch; None for whole images.
        window: side of the windows in pixels.
        steps: of an epoch, each of `train.batch_size`.
        device: in words.
        peak_bytes: most memory at one time; None where it cannot be told.
        seconds: of an epoch of training, validation not counted; None where the device's speed is not known.
        fits: whether the memory is there.
        trouble: why it cannot be told what it costs; "" if it can.
    """

    model: str
    region_size: int
    regions: tuple[int, int]
    tokens: tuple[int, int]
    windows: int | None
    window: int | None
    steps: int
    epochs: int
    device: str
    peak_bytes: int | None = None
    seconds: float | None = None
    fits: bool | None = None
    trouble: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def outlook(
    config: RunConfig, model: "XT", shapes: Sequence[tuple[int, int]], device: str, *, costs: bool = True
) -> Outlook:
    """Tell what training on images of these shapes comes to.

    Args:
        shapes: (height, width) of each training image, as it is read; at least one.
        device: see `xt.plan`.
        costs: whether memory and time are to be told, which takes some seconds.
    """
    augmentation, train = config.data.augmentation, config.train
    size, side = model.region_encoder.region_size, config.model.image_size
    window = augmentation.train_size
    given = [(side, side) if side is not None else _cut(shape, window) for shape in shapes]
    given.sort(key=lambda shape: _regions(shape, size))
    middle, largest = given[len(given) // 2], given[-1]
    windows = None if window is None else augmentation.windows
    images = len(given) * (windows or 1)
    per_region = model.tokens_per_side**2
    regions = _regions(middle, size), _regions(largest, size)
    told: dict[str, Any] = {}
    name = device
    if costs:
        try:
            planned = plan(model, largest, device, region_batch=train.region_batch, optimizer="adamw")
            keep = train.keep if isinstance(train.keep, str) else "auto"
            step = planned.training(keep)
            name = planned.device
            told = {"peak_bytes": step.peak_bytes, "fits": step.fits}
            if step.seconds is not None:
                # By the regions, which take nearly all of it.
                all_regions = sum(_regions(shape, size) for shape in given) * (windows or 1)
                told["seconds"] = step.seconds / regions[1] * all_regions
        except XTError as error:
            told = {"trouble": str(error)}
    return Outlook(
        model=f"{config.model.encoder}, context {config.model.context}",
        region_size=size,
        regions=regions,
        tokens=(regions[0] * per_region, regions[1] * per_region),
        windows=windows,
        window=window,
        steps=-(-images // train.batch_size),
        epochs=train.epochs,
        device=name,
        **told,
    )


def _cut(shape: tuple[int, int], window: int | None) -> tuple[int, int]:
    return shape if window is None else (min(shape[0], window), min(shape[1], window))


def _regions(shape: tuple[int, int], size: int) -> int:
    return -(-shape[0] // size) * -(-shape[1] // size)
