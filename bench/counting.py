"""Counting the statements that databases are sent."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, event


@contextmanager
def counted(watched: Engine | type[Engine] = Engine) -> Iterator[Counter[str]]:
    """Statements sent meanwhile, by any thread, by the name of the database."""
    found: Counter[str] = Counter()
    lock = threading.Lock()

    def sent(connection: Connection, *_: Any) -> None:
        name = (connection.engine.url.database or "").rpartition("/")[2].partition(".")[0]
        with lock:
            found[name] += 1

    event.listen(watched, "before_cursor_execute", sent)
    try:
        yield found
    finally:
        event.remove(watched, "before_cursor_execute", sent)
