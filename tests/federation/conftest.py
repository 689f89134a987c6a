"""A federation for each module's tests: they share it, and what they make in it is their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.federation.cloud import Federation


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    made = Federation(tmp_path_factory.mktemp("cloud"))
    yield made
    made.close()


@pytest.fixture
def own_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """One that a test may break."""
    made = Federation(tmp_path_factory.mktemp("cloud"))
    yield made
    made.close()
