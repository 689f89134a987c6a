"""Counting the statements that databases are sent."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, event


@contextmanager
def counted(directory: Path) -> Iterator[Counter[str]]:
    """Statements sent meanwhile, by any thread, to databases in that directory, by their names."""
    found: Counter[str] = Counter()
    lock = threading.Lock()

    def sent(connection: Connection, *_: Any) -> None:
        database = Path(connection.engine.url.database or "")
        if database.parent == directory:
            with lock:
                found[database.stem] += 1

    event.listen(Engine, "before_cursor_execute", sent)
    try:
        yield found
    finally:
        event.remove(Engine, "before_cursor_execute", sent)
