"""One browser for all tests of the page."""

import pytest

from tests.viewer.browser import chromium


@pytest.fixture(scope="session")
def browser():
    with chromium() as started:
        yield started
