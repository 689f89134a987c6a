"""Counting the statements that databases are sent."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


class ThreadTimes:
    """The processor time of this process's threads, by their names; of those that have ended too, as last read."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[str, float]] = {}

    def read(self) -> dict[str, float]:
        """Seconds."""
        names = {each.native_id: each.name for each in threading.enumerate() if each.native_id is not None}
        for number, name in names.items():
            with suppress(OSError):
                nanoseconds = int(Path(f"/proc/self/task/{number}/schedstat").read_text().split()[0])
                self._seen[number] = (name, nanoseconds / 1e9)
        found: dict[str, float] = {}
        for name, seconds in self._seen.values():
            found[name] = found.get(name, 0.0) + seconds
        return found


def processor_seconds(process: int) -> float:
    """What a process has taken of the processor since its start."""
    words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
