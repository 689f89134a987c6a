"""Small clouds for tests of the surface: one for all tests that leave things as they were, and others."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.edge import reference
from tests.surface.world import World


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    yield from _world(tmp_path_factory)


@pytest.fixture
def own_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """For tests that may do anything to it."""
    yield from _world(tmp_path_factory)


@pytest.fixture
def member_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """As `own_world`, for a second caller in the same test."""
    yield from _world(tmp_path_factory)


def _world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    reference.demand()
    made = World(tmp_path_factory.mktemp("surface"))
    yield made
    made.close()
