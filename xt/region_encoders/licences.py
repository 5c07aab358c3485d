"""Under which licence the weights of a region encoder were published, as far as we know."""

from collections.abc import Mapping
from typing import Any

from xt.region_encoders.cards import card_licence
from xt.region_encoders.hub import TRANSFORMERS, repository_in, repository_of


def licence_of(encoder: str, origin: Mapping[str, Any] | None) -> str | None:
    """As the hub calls it, such as "apache-2.0"; None where nobody has told us.

    Args:
        encoder: its name in a model's configuration.
        origin: of its weights, see `xt.region_encoders.origin`.
    """
    repository = (origin or {}).get("repository") or repository_of(encoder)
    if repository is None and encoder.startswith(TRANSFORMERS):
        repository = repository_in(encoder.removeprefix(TRANSFORMERS))
    return card_licence(repository) or _of_timm(
        encoder if repository is None else repository.partition("@")[0].removeprefix("timm/")
    )


def _of_timm(name: str) -> str | None:
    """What timm says of weights that it names."""
    import timm

    if not timm.is_model(name):
        return None
    settings = timm.get_pretrained_cfg(name)
    return None if settings is None else settings.license
