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


def check(number: int, first_seed: int, folder: Path) -> None:
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
    shown = "\n".join(wrong[:_MOST_SHOWN])
    assert not wrong, f"{len(wrong)} changed images:\n{shown}"


def test_a_changed_image_is_pixels_or_one_sentence(tmp_path):
    check(FAST, 0, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_many_changed_images_are_pixels_or_one_sentence(tmp_path):
    check(SLOW, 1000, tmp_path)
