"""Text as programs write it: with a byte order mark or without, UTF-8 or UTF-16, and JSON and YAML in such files."""

import codecs
import json
from pathlib import Path
from typing import Any

import yaml

from xt.errors import TableError

# The longer ones first: UTF-32's begins like UTF-16's.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# What other files begin with that people take for tables.
_OTHERS = {
    b"PK\x03\x04": "an Excel workbook or a ZIP archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"\x1f\x8b": "compressed by gzip",
    b"PAR1": "a Parquet file",
    b"SQLite format 3": "a GeoPackage or another SQLite database",
}


def read_text(path: str | Path, what: str) -> str:
    """The text of a file, its byte order mark left off; line ends are as they are in the file.

    Args:
        what: it should be, for messages, such as "table".
    Raises:
        TableError: there is no such file, it cannot be read, or it is no text in UTF-8 (or, with a mark, UTF-16).
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise TableError(f"{path}: there is no such {what}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TableError(f"{path}: expected a readable {what} ({reason})") from None
    for beginning, name in _OTHERS.items():
        if content.startswith(beginning):
            raise TableError(f"{path} is {name}; expected a {what} as plain text in UTF-8")
    mark, encoding = next((known for known in _MARKS if content.startswith(known[0])), (b"", "utf-8"))
    try:
        text = content[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise TableError(
            f"{path} is no text in {encoding.upper()} (byte 0x{error.object[error.start]:02x} in line {line}); save "
            "it as UTF-8, such as 'CSV UTF-8' in Excel's list of file types"
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise TableError(
            f"{path} holds null bytes (line {line}): it is no text, or one in UTF-16 without its mark; expected a "
            f"{what} in UTF-8"
        )
    return text


def read_json(path: str | Path, what: str) -> Any:
    """What a JSON file holds; errors as of `read_text`, and for what is no JSON."""
    text = read_text(path, what)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TableError(f"{path} is not a readable JSON file ({' '.join(str(error).split())})") from None


def read_yaml_texts(path: str | Path, what: str) -> Any:
    """What a YAML file holds, every value as the text that stands there.

    So `no`, `on`, `~`, `1e3` and `08` are what somebody typed, where YAML would have them be booleans, nothing and
    numbers. Errors as of `read_text`, and for what is no YAML.
    """
    text = read_text(path, what)
    try:
        return yaml.load(text, _TextLoader)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise TableError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None


class OneKeyOnce:
    """Of a YAML loader: a key stands once; of two, the first would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = [key for key in keys if keys.count(key) > 1]
        if twice:
            raise yaml.constructor.ConstructorError(
                problem=f"{twice[0]!r} is there twice; put together what belongs to it",
                problem_mark=node.start_mark,
            )
        found: dict[Any, Any] = super().construct_mapping(node, deep)  # type: ignore[misc]
        return found


class _TextLoader(OneKeyOnce, yaml.BaseLoader):
    pass
