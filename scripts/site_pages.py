"""Pages of the site that are made from the code, and links that lead out of docs/; called by mkdocs."""

import contextlib
import io
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
# Pages and pictures of the repository beside docs/, by the name that they have on the site.
BESIDE = {"measured.md": "benchmarks/README.md", "reference/changes.md": "CHANGELOG.md"}
_PICTURES = ROOT / "benchmarks" / "results"
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]*)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    made = {
        "reference/python.md": python_page(),
        "reference/configuration.md": configuration_page(),
        "reference/commands.md": commands_page(),
        **{name: (ROOT / source).read_text(encoding="utf-8") for name, source in BESIDE.items()},
    }
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    for picture in sorted(_PICTURES.glob("*.png")):
        files.append(File.generated(config, f"measured/{picture.name}", abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links as they stand in the repository become links of the site; those to code become its name.

    A page that is alone in its tab has no list of pages beside it, but that much more room for tables and code.
    """
    if page.parent is None:
        page.meta["hide"] = ["navigation"]
    here = page.file.src_uri
    source = BESIDE.get(here, f"docs/{here}")
    there = {f"docs/{file.src_uri}": file.src_uri for file in files} | {
        path: name for name, path in BESIDE.items()
    }
    there |= {f"benchmarks/results/{path.name}": f"measured/{path.name}" for path in _PICTURES.glob("*.png")}

    def to_site(link: re.Match[str]) -> str:
        picture, words, target, anchor = link[1], link[2], link[3], link[4] or ""
        if not target or ":" in target:
            return link[0]
        path = os.path.normpath(os.path.join(os.path.dirname(source), target))
        if path in there:
            relative = os.path.relpath(there[path], os.path.dirname(here) or ".")
            return f"{picture}[{words}]({relative}{anchor})"
        # The repository's own files, which the site has not.
        return words if (ROOT / path).exists() else link[0]

    return _LINK.sub(to_site, markdown)


def python_page() -> str:
    """A heading for each folder that public names are from, in the order of the package's own list."""
    import xt

    groups: dict[str, list[str]] = {}
    for name, module in xt._EXPORTS.items():
        groups.setdefault(module.split(".")[1].replace("_", " "), []).append(name)
    lines = [
        "# Python",
        "All public names; `import xt` loads none of them before it is used. Places and sizes are (y, x) and (height, "
        "width), windows half-open, in pixels of level 0.",
    ]
    for group, names in groups.items():
        lines += [f"## {group.capitalize()}", *(f"::: xt.{name}" for name in names)]
    return "\n\n".join(lines) + "\n"


def configuration_page() -> str:
    """A table for each section of a configuration."""
    from xt.config.help import groups_of_keys

    lines = [
        "# Configuration",
        "What `xt train` and `xt compare` read from a YAML file, in its sections, or on the command line as "
        "`--SECTION.KEY VALUE`, which comes before the file's. `xt recipes show NAME` shows one with comments.",
    ]
    for title, keys in groups_of_keys().items():
        rows = [f"| `{key.name}` | {_cell(key.value)} | {_cell(key.about)} |" for key in keys]
        lines += [
            f"## {title[0].upper()}{title[1:]}",
            "\n".join(["| key | value | |", "|---|---|---|", *rows]),
        ]
    return "\n\n".join(lines) + "\n"


def commands_page() -> str:
    """What each command says of itself."""
    from xt.cli.main import COMMANDS, main

    lines = [
        "# Commands",
        "What `xt COMMAND --help` says. Keys of a configuration are on [a page of their own](configuration.md).",
    ]
    for name in COMMANDS:
        said = io.StringIO()
        with contextlib.redirect_stdout(said), _width(100):
            main([name, "--help"])
        lines += [f"## xt {name}", f"```text\n{_without_keys(said.getvalue())}\n```"]
    return "\n\n".join(lines) + "\n"


def _without_keys(text: str) -> str:
    """Without the list of a configuration's keys, but with the examples at the end."""
    head, _, rest = text.partition("\nmodel: ")
    examples = rest.rpartition("\nexamples:\n")
    return head.strip("\n") + ("\n\nexamples:\n" + examples[2].rstrip("\n") if examples[1] else "")


@contextlib.contextmanager
def _width(columns: int) -> Iterator[None]:
    before: Mapping[str, Any] = dict(os.environ)
    os.environ["COLUMNS"] = str(columns)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("\n", " ")
