from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cell_service.db.sql.engine import Database
from mapping_db import schema


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    """A global database of its own for each test."""
    database = Database(f"sqlite:///{tmp_path / 'global.db'}")
    schema.metadata.create_all(database.engine)
    yield database
    database.dispose()
