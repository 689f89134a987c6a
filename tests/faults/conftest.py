"""One installation for all tests here; each finds it healthy and empty."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults import bursts
from tests.faults.installation import Installation


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    made = Installation(tmp_path_factory.mktemp("cloud"))
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def cloud(installation: Installation) -> Installation:
    installation.until_healthy()
    bursts.sweep(installation)
    return installation
