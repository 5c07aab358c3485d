"""Labels, tables, configurations and checkpoints that something has changed: an answer, or one of our errors that
names the file. A failure tells kind and seed; `changed_file(kind, seed, folder)` makes that file again."""

import traceback
import warnings
from pathlib import Path

import pytest

from tests.damaged_files import KINDS, changed_file, write_images
from xt.errors import XTError

# Of all kinds together.
FAST, SLOW = 600, 10_000
_MOST_SHOWN = 5


def wrong_answer(kind: str, seed: int, folder: Path) -> str | None:
    """What is wrong with how the changed file is met; None if nothing is."""
    path = changed_file(kind, seed, folder)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            KINDS[kind].read(path)
    except XTError as error:
        return None if path.name in str(error) else f"does not name the file: {type(error).__name__}: {error}"
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {str(error)[:300]} ({Path(place.filename).name}:{place.lineno})"
    return None


def wrong_answers(kind: str, seeds: range, folder: Path) -> dict[int, str]:
    """By seed of the change, what is neither an answer nor one sentence."""
    write_images(folder)
    return {seed: what for seed in seeds if (what := wrong_answer(kind, seed, folder)) is not None}


def told(wrong: dict[int, str]) -> str:
    shown = [f"seed {seed}: {what}" for seed, what in list(wrong.items())[:_MOST_SHOWN]]
    return "\n".join([f"{len(wrong)} changed files:", *shown])


@pytest.mark.parametrize("kind", KINDS)
def test_the_good_file_is_read(kind, tmp_path):
    write_images(tmp_path)
    path = tmp_path / KINDS[kind].name
    path.write_bytes(KINDS[kind].good())
    assert KINDS[kind].read(path) is not None


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_file_is_an_answer_or_one_sentence(kind, tmp_path):
    wrong = wrong_answers(kind, range(-(-FAST // len(KINDS))), tmp_path)
    assert not wrong, told(wrong)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
def test_many_changed_files_are_answers_or_one_sentence(kind, tmp_path):
    wrong = wrong_answers(kind, range(1000, 1000 + -(-SLOW // len(KINDS))), tmp_path)
    assert not wrong, told(wrong)
