"""How regions are chosen, by name."""

from typing import Any

from xt.errors import ConfigError
from xt.model.by_model import ByModel
from xt.regions.by_content import ByContent
from xt.regions.choice import AllRegions, RegionChoice, check_budget
from xt.registry import Registry, create, subclass_of

REGION_CHOICES: Registry[type[RegionChoice]] = Registry(
    "region_choices",
    {"all": AllRegions, "by_content": ByContent, "by_model": ByModel},
    subclass_of(RegionChoice, "choice of regions"),
)


def create_region_choice(name: str, levels: int | None = None, **options: Any) -> RegionChoice:
    """Make a choice of regions by name.

    Args:
        name: a key of `REGION_CHOICES`.
        levels: of the pyramid; None for the choice's own number.
        options: of the class, such as `budget`.

    Raises:
        ConfigError: the name or an option is unknown, or a value does not fit.
    """
    if name == "all" and options:
        raise ConfigError(
            f"the choice of regions 'all' has no option {next(iter(options))!r}, as it looks at everything: set "
            "model.regions to by_content or by_model, or leave the option out"
        )
    for option in ("budget", "training_budget"):
        if options.get(option) is not None:
            check_budget(options[option])
    if levels is not None:
        options = {**options, "levels": levels}
    return create(REGION_CHOICES, name, ("levels",), **options)
