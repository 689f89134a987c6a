"""Databases of one kind share what was compiled for one of them: SQLite, MariaDB, PostgreSQL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import bindparam, event, insert, select
from sqlalchemy.engine.interfaces import CacheStats

from cell_service.db.sql import compiled
from cell_service.db.sql.engine import Database
from tests.suites.database import NOW, notes

WANTED = select(notes.c.at, notes.c.value).where(notes.c.text == bindparam("words")).order_by(notes.c.at.desc())


def test_a_statement_is_compiled_once_for_a_kind_and_means_the_same_in_all(
    empty_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cell_service.db.sql.engine.STATEMENTS", compiled._Statements())
    first, again = Database(empty_url), Database(empty_url)
    other = Database(f"sqlite:///{tmp_path / 'other.db'}")
    found: list[CacheStats] = []

    def watch(_tx: Any, _cursor: Any, _text: str, _given: Any, context: Any, _many: bool) -> None:
        if context.compiled is not None and context.compiled.statement.is_select:
            found.append(context.cache_hit)

    for db in (first, other) if first.dialect != "sqlite" else (first,):
        with db.begin() as tx:
            notes.create(tx)
            tx.execute(insert(notes), [{"id": 1, "at": NOW, "value": {"a": [1]}, "text": "x"}])
    for db in (first, again, other) if first.dialect != "sqlite" else (first, again):
        event.listen(db.engine, "before_cursor_execute", watch)
        with db.connect() as tx:
            assert [tuple(row) for row in tx.execute(WANTED, {"words": "x"})] == [(NOW, {"a": [1]})]
        db.dispose()
    assert found == [CacheStats.CACHE_MISS, CacheStats.CACHE_HIT, CacheStats.CACHE_MISS][: len(found)]
    assert len(found) >= 2
