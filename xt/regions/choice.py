"""Which regions of an image are looked at, and at which scale: the interface, and all of them at full resolution."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from copy import copy
from typing import TYPE_CHECKING, Self

from xt.errors import ConfigError
from xt.option_types import LARGEST
from xt.regions.grid import RegionGrid
from xt.regions.scattered import PixelRegions

if TYPE_CHECKING:
    from xt.images import LargeImage

MOST_LEVELS = 12


class RegionChoice(ABC):
    """How regions are chosen. What a subclass takes besides `levels` are its options (`model.regions_options`).

    Attributes:
        in_words: where it looks, for who reads of a model.
        levels: of the pyramid that regions may come from, each half as fine as the one before; 1 for full resolution
            alone.
        looks: whether it looks at pixels.
        asks_model: whether a model that knows these regions' tokens chooses more.
    """

    in_words = "as its own rule says"
    looks = False
    asks_model = False

    def __init__(self, levels: int = 1) -> None:
        if not 1 <= levels <= MOST_LEVELS:
            raise ConfigError(f"levels must be 1 to {MOST_LEVELS}, got {levels}")
        self.levels = levels

    @abstractmethod
    def first(self, image: "LargeImage | None", fine: RegionGrid) -> PixelRegions:
        """The regions that are looked at before anything is known from a model.

        Args:
            image: None where nobody asks for its pixels, see `looks`.
            fine: all that hold anything that is wanted (foreground), at full resolution.
        """

    def __repr__(self) -> str:
        """With everything that makes one choice differ from another: work that is gone on with has the same."""
        options = ", ".join(f"{name}={value!r}" for name, value in sorted(vars(self).items()))
        return f"{type(self).__name__}({options})"

    def most(self, fine: RegionGrid, training: bool = False) -> int:
        """How many regions it looks at, at most, while the model learns or else."""
        return len(fine)

    def with_budget(self, budget: float) -> Self:
        """The same choice with another budget, see `regions_within`.

        Raises:
            ConfigError: it has none.
        """
        if not hasattr(self, "budget"):
            raise ConfigError(f"{type(self).__name__} has no budget of regions")
        other = copy(self)
        other.budget = budget
        return other

    def by_number(self, image: "LargeImage | None", fine: RegionGrid) -> Callable[[int], PixelRegions]:
        """What `first` gives for a budget of so many regions, at least 1, whatever the number, of one image."""
        return lambda number: self.with_budget(budget_of(number, fine)).first(image, fine)


class AllRegions(RegionChoice):
    """Everything, at full resolution."""

    in_words = "all of them at full resolution"

    def first(self, image: "LargeImage | None", fine: RegionGrid) -> RegionGrid:
        return fine


def check_budget(budget: object) -> None:
    """Refuse what is no budget, see `regions_within`.

    Raises:
        ConfigError: it is no number, not positive, no whole number above 1, or larger than anything meant.
    """
    is_number = isinstance(budget, int | float) and not isinstance(budget, bool)
    if is_number and (0 < budget <= 1 or (1 < budget <= LARGEST and budget == int(budget))):  # type: ignore[operator, call-overload]
        return
    raise ConfigError(
        "a budget is a share of the regions, above 0 and at most 1, or a whole number of them above 1, at most "
        f"{LARGEST:,}; got {budget!r}"
    )


def regions_within(budget: float, fine: RegionGrid) -> int:
    """How many regions a budget allows: up to 1 it is a share of all that are wanted, above 1 a number.

    Raises:
        ConfigError: it is none, see `check_budget`.
    """
    check_budget(budget)
    return min(len(fine), int(budget) if budget > 1 else max(1, round(budget * len(fine))))


def budget_of(number: int, fine: RegionGrid) -> float:
    """The budget that means so many regions: of one it is a share, as 1 means all."""
    return float(number) if number > 1 else 1 / max(len(fine), 1)
