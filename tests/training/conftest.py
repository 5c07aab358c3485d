"""One table of toy images for all tests, and one thread, so that numbers repeat exactly."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.training.toy import toy_table


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_table(tmp_path_factory.mktemp("toy"))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
