"""Each block of code in README and documentation is run by a test or says why not; the site loads nothing."""

import argparse
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from tests.pages import DOCS, Block, blocks_of, pictures_of, run_page
from xt.cli.main import COMMANDS
from xt.config.catalogue import all_keys, is_mapping

ROOT = DOCS.parent
TUTORIALS = sorted((DOCS / "tutorials").glob("*.md"))
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")),
    *sorted(DOCS.rglob("*.md")),
]
# Which test runs all Python of a page that is not marked.
RUN_BY = {
    "README.md": "tests/test_face.py",
    "docs/design.md": "tests/test_face.py",
    "docs/images.md": "tests/images/test_page.py",
    "docs/dense.md": "tests/training/test_dense_page.py",
    "docs/detection.md": "tests/training/test_detection_page.py",
    "docs/detection_backbone.md": "tests/model/test_detection_backbone_page.py",
    "docs/scale.md": "tests/distributed/test_page.py",
    "docs/cohorts.md": "tests/test_cohorts_page.py",
    "docs/extending.md": "tests/test_extending.py",
} | {path.relative_to(ROOT).as_posix(): "tests/test_site.py" for path in [DOCS / "index.md", *TUTORIALS]}


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_block_is_run_or_says_why_not(page: Path) -> None:
    """Commands of xt that stand in pages which are not run are held against the command line."""
    for block in blocks_of(page):
        where = f"{_name(page)}, line {block.line}"
        if block.kind == "python" and block.reason is None:
            assert _name(page) in RUN_BY, f"{where}: no test runs it; say why: <!-- not run: REASON -->"
        if block.kind in ("", "sh", "text"):
            for command in _commands(block):
                _check_command(command, where)


def _commands(block: Block) -> list[list[str]]:
    """The words of lines that begin with `xt`, without what is said about them behind three blanks or a hash."""
    lines = [line for line in block.commands() if re.match(r"xt [a-z]", line)]
    return [shlex.split(re.split(r" {3,}", line)[0], comments=True) for line in lines]


def _check_command(words: list[str], where: str) -> None:
    assert words[1] in COMMANDS, f"{where}: there is no command {words[1]}"
    parser = argparse.ArgumentParser()
    import_module(COMMANDS[words[1]][0]).add_arguments(parser)
    known = {name for action in parser._actions for name in action.option_strings}
    known |= {"--import", *(f"--{key}" for key in all_keys())}
    # Of a mapping, such as the options of a part, each key may be said by itself.
    mappings = tuple(f"--{name}." for name, key in all_keys().items() if is_mapping(key.type))
    given = {word.partition("=")[0] for word in words if word.startswith("--")}
    given = {name for name in given if not name.startswith(mappings)}
    assert given <= known, f"{where}: xt {words[1]} has no {', '.join(sorted(given - known))}"


def test_every_page_is_in_the_navigation() -> None:
    """Else the site is not built: it is strict."""
    nav = re.findall(r"^ +- .*: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(set(nav)) == sorted(nav)
    assert {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")} <= set(nav)


def test_the_tests_that_run_pages_name_them() -> None:
    for page, test in RUN_BY.items():
        text = (ROOT / test).read_text()
        assert Path(page).stem in text or test == "tests/test_site.py", (page, test)


@pytest.mark.parametrize("page", TUTORIALS, ids=_name)
def test_a_tutorial_has_a_picture_of_its_run(page: Path) -> None:
    pictures = pictures_of(page)
    assert pictures
    assert all(picture.is_file() for picture in pictures)
    # No picture has another origin.
    assert len(re.findall(r"!\[", page.read_text())) == len(pictures)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("page", [DOCS / "index.md", *TUTORIALS], ids=_name)
def test_a_page_runs_as_it_stands(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    run_page(page)
    assert all((tmp_path / source).is_file() for source in pictures_of(page).values())


def test_what_a_page_may_say_wrong_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.md"
    for text, match in (
        ("```python\n1 + 1  # -> 3\n```\n", "is 2, the page says 3"),
        ("```sh\npip install xt-vision\n```\n", "is no command of xt"),
        ("```sh\nxt recipes show nothing\n```\n", "xt recipes show nothing"),
    ):
        page.write_text(text)
        with pytest.raises(AssertionError, match=match):
            run_page(page)
    page.write_text(
        '<!-- not run: needs a cluster -->\n```sh\nray start\n```\n```yaml title="a.yaml"\nkey: 1\n```\n'
        "```python\na = 1\na + 1  # -> 2\n```\n"
    )
    assert run_page(page)["a"] == 1
    assert (tmp_path / "a.yaml").read_text() == "key: 1\n"
    for words in (["xt", "trian"], ["xt", "train", "a.yaml", "--data.tabel=x"], ["xt", "view", "--modle"]):
        with pytest.raises(AssertionError, match=r"there is no command|has no --"):
            _check_command(words, "here")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it."""
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_loads_nothing(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 25
    for page in pages:
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe|source)[^>]*\ssrc=\"?([^\">\s]+)", text)
        loaded += re.findall(r"<link[^>]*rel=\"?(?:stylesheet|preconnect|icon)[^>]*href=\"?([^\">\s]+)", text)
        assert [address for address in loaded if re.match(r"(https?:)?//", address)] == [], page


@pytest.mark.slow
def test_a_page_alone_in_its_tab_leaves_the_room_to_its_tables(site: Path) -> None:
    """The list of pages beside it would have one line."""
    hidden = re.compile(r'<div class="md-sidebar md-sidebar--primary"[^>]* hidden>')
    alone = {
        name for name in ("index", "compared", "export") if hidden.search((site / f"{name}.html").read_text())
    }
    assert alone == {"index", "compared"}


@pytest.mark.slow
def test_the_reference_has_every_public_name_every_key_and_every_command(site: Path) -> None:
    import xt

    python = (site / "reference/python.html").read_text(encoding="utf-8")
    assert [name for name in xt._EXPORTS if f'id="xt.{name}"' not in python] == []
    configuration = (site / "reference/configuration.html").read_text(encoding="utf-8")
    assert [key for key in all_keys() if f"<code>{key}</code>" not in configuration] == []
    commands = (site / "reference/commands.html").read_text(encoding="utf-8")
    assert [name for name in COMMANDS if f'id="xt-{name}"' not in commands] == []


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_the_tests_that_reasons_name_are_there(page: Path) -> None:
    named = re.findall(
        r"(?:tests|docs)/[\w/]+\.\w+", " ".join(block.reason or "" for block in blocks_of(page))
    )
    assert [path for path in named if not (ROOT / path).is_file()] == []
