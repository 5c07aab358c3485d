"""Pretrained weights that are on this machine already."""

from pathlib import Path

from xt.doctor.report import Finding

_SHOWN, _FEW = 12, 4


def weights() -> list[Finding]:
    """Those in the caches of the hub and of PyTorch, and whether those of the recipes are among them."""
    return [_in_hub(), _in_torch(), *_of_recipes()]


def _in_hub() -> Finding:
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    names = []
    for repository in sorted(folder.glob("models--*")):
        # A download that was broken off leaves no file among the snapshots.
        if any(path.is_file() for path in repository.glob("snapshots/*/*")):
            names.append(repository.name.removeprefix("models--").replace("--", "/"))
    return Finding("hub's cache", names, _shown(names, folder))


def _in_torch() -> Finding:
    import torch

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    names = sorted(path.name for path in folder.glob("*") if path.is_file())
    return Finding("PyTorch's cache", names, _shown(names, folder))


def _of_recipes() -> list[Finding]:
    from xt.config.files import read_with_base
    from xt.recipes import recipes
    from xt.region_encoders.pretrained import cached_file

    recipes_of: dict[str, list[str]] = {}
    for name, recipe in recipes().items():
        recipes_of.setdefault(read_with_base(recipe)["model"]["encoder"], []).append(name)
    found = []
    for encoder, names in recipes_of.items():
        weights = cached_file(encoder)
        of = f"{', '.join(names[:_FEW])}{', ...' if len(names) > _FEW else ''}"
        text = f"{'here' if weights else 'fetched when first used'}; for {of}"
        found.append(Finding(encoder, None if weights is None else str(weights), text))
    return found


def _shown(names: list[str], folder: Path) -> str:
    if not names:
        return f"empty ({folder})"
    return f"{', '.join(names[:_SHOWN])}{f', ... ({len(names)})' if len(names) > _SHOWN else ''} ({folder})"
