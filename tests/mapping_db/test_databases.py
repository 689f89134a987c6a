"""The database suite on SQLite, and on MariaDB and PostgreSQL started for it."""

from __future__ import annotations

import pytest

from tests.suites.database import DatabaseSuite


class TestDatabases(DatabaseSuite):
    @pytest.fixture
    def url(self, empty_url: str) -> str:
        return empty_url
