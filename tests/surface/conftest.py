"""One small cloud for all tests of the surface."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.edge import reference
from tests.surface.world import World


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    reference.demand()
    made = World(tmp_path_factory.mktemp("surface"))
    yield made
    made.close()
