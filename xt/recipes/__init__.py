"""The recipes inside the package: configurations that `xt train NAME` knows, in YAML files beside this one.

A recipe's name is its path below this folder without the suffix, such as `classification` or `coco/swin_t_xl`. Its
first comment says in one line what it is for.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from xt.errors import ConfigError
from xt.registry import nearest_names

_FOLDER = Path(__file__).parent
_SUFFIXES = (".yaml", ".yml")


def recipes() -> Mapping[str, Path]:
    """The file of each recipe, by name: those of their own first, then families such as `coco/...`."""
    found = {path.relative_to(_FOLDER).with_suffix("").as_posix(): path for path in _FOLDER.rglob("*.yaml")}
    return dict(sorted(found.items(), key=lambda item: (item[0].count("/"), item[0])))


def summary(name: str) -> str:
    """What a recipe is for, in one line.

    Raises:
        ConfigError: there is no such recipe.
    """
    return read(name).partition("\n")[0].lstrip("# ")


def read(name: str) -> str:
    """A recipe as it stands in its file, comments and all.

    Raises:
        ConfigError: there is no such recipe; the nearest one is named.
    """
    known = recipes()
    if name not in known:
        raise ConfigError(f"there is no recipe {name!r}{_nearest(name)}")
    return known[name].read_text(encoding="utf-8")


def is_configuration(text: str) -> bool:
    """Whether a word of a command line means a configuration: a YAML file, there or not, or a recipe's name."""
    return Path(text).suffix.lower() in _SUFFIXES or (text in recipes() and not os.path.exists(text))


def configuration_file(text: str | Path, folder: Path | None = None) -> Path:
    """The file that is meant by a path or by a recipe's name; a file counts before a recipe.

    Args:
        folder: that relative paths start from; the current one by default.
    Raises:
        ConfigError: there is neither; the nearest recipe is named.
    """
    path = Path(text) if folder is None else folder / text
    if os.path.isfile(path):
        return path
    known = recipes()
    if str(text) in known:
        return known[str(text)]
    if os.path.isdir(path):
        raise ConfigError(f"{path} is a folder: expected a YAML file or the name of a recipe (xt recipes)")
    if path.suffix.lower() in _SUFFIXES:
        same = [name for name in known if _plain(path).endswith(_plain(name))]
        hint = f"; the recipe is called {max(same, key=len)!r}" if same else ""
        raise ConfigError(f"{path}: there is no such configuration file{hint}")
    raise ConfigError(f"{text}: there is neither such a file nor such a recipe{_nearest(str(text))}")


def _plain(name: str | Path) -> str:
    """A name without what older names and paths of recipes have differently: `configs/coco_swin_t.yaml`."""
    return str(Path(name).with_suffix("")).replace("/", "_").replace("\\", "_")


def _nearest(name: str) -> str:
    known = list(recipes())
    lower = name.lower().replace("\\", "/")
    near = nearest_names(lower, known)
    # The last part alone, of the many that stand in a folder.
    near = near or [known_name for known_name in known if known_name.rpartition("/")[2] == lower]
    return f"; did you mean {near[0]!r}?" if near else "; xt recipes lists those there are"
