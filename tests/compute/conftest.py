"""The Compute API for each test, with its own databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.edge.client import Client
from tests.edge.compute_api import ComputeApi, make_templates


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_templates(tmp_path_factory.mktemp("templates"))


@pytest.fixture
def api(tmp_path: Path, templates: Path) -> Iterator[ComputeApi]:
    made = ComputeApi(tmp_path, templates)
    yield made
    made.close()


@pytest.fixture
def client(api: ComputeApi) -> Client:
    """An administrator."""
    return api.client
