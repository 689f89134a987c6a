"""The guest image, built once for a test session."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cell_service.errors import Unavailable
from tools.guest.image import GuestImage, build


@pytest.fixture(scope="session")
def guest(tmp_path_factory: pytest.TempPathFactory) -> GuestImage:
    named = os.environ.get("POLYCELL_CACHE")
    try:
        return build(Path(named) if named else tmp_path_factory.mktemp("guest"))
    except Unavailable as error:
        pytest.skip(str(error))
