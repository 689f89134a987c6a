"""Operations, actions, services and nodes on every kind of database."""

from __future__ import annotations

import pytest

from tests.suites.operations import OperationsSuite


class TestOperations(OperationsSuite):
    @pytest.fixture
    def url(self, empty_url: str) -> str:
        return empty_url
