from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.suites.companions import Companions, start_companions


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Companions]:
    """One set of companions for all tests: each makes what it needs, under names of its own."""
    made = start_companions(tmp_path_factory.mktemp("companions"))
    yield made
    made.close()
