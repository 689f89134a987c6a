"""One world for all lists, on each kind of database; every example fills it anew."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lists.world import World


@pytest.fixture(
    scope="session",
    params=[
        "sqlite",
        pytest.param("mariadb", marks=pytest.mark.real),
        pytest.param("postgresql", marks=pytest.mark.real),
    ],
)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    create = None if request.param == "sqlite" else request.getfixturevalue(request.param).create_database
    made = World(tmp_path_factory.mktemp("world"), create=create)
    yield made
    made.api.close()
