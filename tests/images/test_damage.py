"""Image files that something has changed, each read under a limit of time and memory: pixels, or one of our errors that
names the file; none hangs or ends the process. A failure tells kind and seed."""

import sys
from pathlib import Path

import numpy as np
import pytest

from tests.images.changed_images import write_changed, write_good
from tests.images.limited import LimitedReader

FAST, SLOW = 60, 2000
_MOST_SHOWN = 8

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")


def wrong_answers(number: int, first_seed: int, folder: Path) -> list[str]:
    """Of changed images, what is neither pixels nor one sentence."""
    (folder / "good").mkdir()
    (folder / "changed").mkdir()
    kinds = write_good(folder / "good")
    wrong = []
    with LimitedReader() as reader:
        for kind, good in kinds.items():
            assert reader.wrong_answer(good) is None, f"the good file of the kind {kind!r}"
            for seed in range(first_seed, first_seed + -(-number // len(kinds))):
                path = write_changed(good, folder / "changed", np.random.default_rng(seed))
                if (what := reader.wrong_answer(path)) is not None:
                    wrong.append(f"{kind}, seed {seed}: {what}")
    return wrong


def told(wrong: list[str]) -> str:
    return "\n".join([f"{len(wrong)} changed images:", *wrong[:_MOST_SHOWN]])


def test_a_changed_image_is_pixels_or_one_sentence(tmp_path):
    wrong = wrong_answers(FAST, 0, tmp_path)
    assert not wrong, told(wrong)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_many_changed_images_are_pixels_or_one_sentence(tmp_path):
    wrong = wrong_answers(SLOW, 1000, tmp_path)
    assert not wrong, told(wrong)
