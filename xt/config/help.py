"""Every key of a configuration with its meaning, range, type and default, as text for a terminal."""

import argparse
import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Literal, NamedTuple, get_args, get_origin

from xt.config.catalogue import all_keys, fields_of, is_section, sections, variants
from xt.config.run import RunConfig
from xt.option_types import in_words

_KIND = "Which kind of source; need not be said where the field of that name is given, such as data.table."


class Line(NamedTuple):
    """One key in the help; `owners` are the kinds of source or the tasks for which all that is said is true."""

    name: str
    type: Any
    about: str
    owners: tuple[str, ...]

    @property
    def value(self) -> str:
        """What it may be, in words."""
        choices = _choices(self.type)
        return in_words(self.type) if choices is None else ", ".join(choices)


def format_keys(usage: str, about: str = "") -> str:
    """Every key, those of one source or task together.

    Args:
        about: the command's own options.
    """
    formatter = argparse.HelpFormatter(prog="xt", max_help_position=28)
    formatter.add_usage(usage, [], [])
    formatter.add_text(
        "CONFIG is a recipe's name (xt recipes lists them) or a YAML file with the keys below in their sections; on "
        f"the command line they come before the file's. {about}"
    )
    for title, lines in groups_of_keys().items():
        formatter.start_section(title)
        for line in lines:
            what = line.about.replace("%", "%%")
            formatter.add_argument(
                argparse.Action([f"--{line.name}"], "", metavar=_metavar(line.type), help=what)
            )
        formatter.end_section()
    return formatter.format_help()


def choices_of_keys() -> dict[str, list[str] | None]:
    """Every key, and what it may be where that is one of a few words."""
    return {name: _choices(key.type) for name, key in all_keys().items()}


def _choices(kind: Any) -> list[str] | None:
    if kind is bool:
        return ["true", "false"]
    return [str(value) for value in get_args(kind)] if get_origin(kind) is Literal else None


def groups_of_keys() -> dict[str, list[Line]]:
    """The lines below their titles: of each section first what one source or task alone has, last what all have."""
    about = documented(RunConfig)
    groups: dict[str, list[Line]] = {}
    for section in sections():
        found = variants(section)
        lines: dict[tuple[str, str], Line] = {}
        for owner, cls in found.items():
            for name, kind, text in _lines(cls, f"{section}."):
                before = lines.get((name, text))
                owners = () if before is None else before.owners
                lines[name, text] = Line(name, kind, text, (*owners, owner))
        if section == "data":
            lines[section, ""] = Line("data.kind", all_keys()["data.kind"].type, _KIND, tuple(found))
        for line in sorted(lines.values(), key=lambda line: len(line.owners)):
            title = (
                f"{section} {_of(line.owners, list(found))}"
                if len(found) > 1
                else f"{section}: {about[section].rstrip('.')}"
            )
            groups.setdefault(title, []).append(line)
    return groups


def _of(owners: Sequence[str], everyone: Sequence[str]) -> str:
    """Whose some keys are, in few words."""
    others = [name for name in everyone if name not in owners]
    if not others:
        return "of all"
    return f"of all but {', '.join(others)}" if len(others) < len(owners) else f"of {', '.join(owners)}"


def _lines(cls: type, prefix: str) -> Iterator[tuple[str, Any, str]]:
    about = documented(cls)
    for item in dataclasses.fields(cls):
        kind = fields_of(cls)[item.name]
        if is_section(kind):
            yield from _lines(kind, f"{prefix}{item.name}.")
        else:
            yield f"{prefix}{item.name}", kind, f"{about.get(item.name, '')} {_default(item)}".lstrip()


def _default(item: "dataclasses.Field[Any]") -> str:
    if item.default_factory is not dataclasses.MISSING:
        return f"(default: {item.default_factory()})"
    if item.default is dataclasses.MISSING:
        return "(required)"
    value = list(item.default) if isinstance(item.default, tuple) else item.default
    return "" if value is None else f"(default: {str(value).lower() if isinstance(value, bool) else value})"


def _metavar(kind: Any) -> str:
    choices = _choices(kind)
    if choices is not None:
        return f"{{{','.join(choices)}}}"
    words = in_words(kind)
    names = {"a list": "LIST", "a section": "KEYS", "a text": "TEXT", "a whole number": "N", "a number": "X"}
    return next((name for begin, name in names.items() if words.startswith(begin)), "VALUE")


@cache
def documented(cls: type) -> dict[str, str]:
    """What the docstrings say of a dataclass's fields: those below them, or the list of attributes."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        assert isinstance(body, ast.ClassDef)
        found |= _attributes(inspect.getdoc(base) or "")
        for field, text in zip(body.body, body.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
            ):
                found[field.target.id] = " ".join(str(ast.literal_eval(text.value)).split())
    return found


def _attributes(doc: str) -> dict[str, str]:
    listed = doc.partition("Attributes:\n")[2]
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", listed, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}
