"""What was deleted from a SQLite database is in none of its files."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Column, Integer, MetaData, Table, Text, delete, insert, text, update

from cell_service.db.sql.engine import Database

SECRET = "Gr8-Secret" * 500

notes = Table("notes", MetaData(), Column("id", Integer, primary_key=True), Column("text", Text))


def test_deleted_and_replaced_content_is_overwritten(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path / 'notes.sqlite'}")
    with db.begin() as tx:
        notes.create(tx)
        tx.execute(insert(notes), [{"id": 1, "text": SECRET}, {"id": 2, "text": SECRET}])
    assert SECRET[:10] in content(tmp_path)
    with db.begin() as tx:
        tx.execute(delete(notes).where(notes.c.id == 1))
        tx.execute(update(notes).where(notes.c.id == 2).values(text="none"))
    with db.connect() as tx:
        tx.execute(text("PRAGMA wal_checkpoint(FULL)"))  # as the database does by itself from time to time
    with db.begin() as tx:
        tx.execute(insert(notes).values(id=3))
    assert (tmp_path / "notes.sqlite-wal").exists()
    assert SECRET[:10] not in content(tmp_path)
    db.dispose()


def content(directory: Path) -> str:
    return "".join(path.read_bytes().decode("latin-1") for path in directory.iterdir())
