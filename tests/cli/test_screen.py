"""Sentences on a terminal and in a pipe."""

import io

import pytest

from xt.cli.screen import fitted, fitted_columns

LONG = (
    "a sentence of several words that tells what was expected, what came, which file and what to do about it"
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_a_sentence_is_broken_between_words(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = fitted(LONG, Terminal(), "name  ").splitlines()
    assert max(map(len, lines)) <= columns
    assert lines[0].startswith("name  a sentence")
    assert all(line.startswith(" " * 6) for line in lines[1:])
    assert "name  " + " ".join(line.strip() for line in lines).removeprefix("name  ") == f"name  {LONG}"


def test_what_is_to_be_copied_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    command = "  xt train classification --data.table slides.csv --train.out runs/first"
    shown = fitted(f"xt: {LONG}:\n{command}\n\nhttps://{'a' * 60}", Terminal())
    assert command in shown.splitlines()
    assert f"https://{'a' * 60}" in shown.splitlines()


def test_in_a_pipe_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert fitted(LONG, io.StringIO(), "name  ") == f"name  {LONG}"


def test_columns_go_on_below_what_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    command = "to train: xt train classification --data.table slides.csv --train.out runs/first"
    text = f"  cost        {LONG}\nshort  text\n{LONG}\n{command}"
    assert fitted_columns(text, io.StringIO()) == text
    lines = fitted_columns(text, Terminal()).splitlines()
    assert command in lines
    assert max(len(line) for line in lines if line != command) <= 60
    assert lines[0].startswith("  cost        a sentence")
    assert lines[1].startswith(" " * 14)
    assert "short  text" in lines
