"""The Compute API for each test, with its own databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.edge.client import Client
from tests.edge.compute_api import ComputeApi


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ComputeApi]:
    made = ComputeApi(tmp_path)
    yield made
    made.close()


@pytest.fixture
def client(api: ComputeApi) -> Client:
    """An administrator."""
    return api.client
