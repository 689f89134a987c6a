"""Locks by guest: one verb at a time for each guest."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


class Gates:
    """A lock for each name that a thread has locked or waits for; the thread that has it may lock it again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._gates: dict[str, tuple[threading.RLock, int]] = {}

    def users(self, name: str) -> int:
        """The number of threads that have locked it, or wait for it."""
        with self._lock:
            return self._gates[name][1] if name in self._gates else 0

    @contextlib.contextmanager
    def locked(self, name: str) -> Iterator[None]:
        with self._lock:
            gate, users = self._gates.get(name, (threading.RLock(), 0))
            self._gates[name] = (gate, users + 1)
        try:
            with gate:
                yield
        finally:
            with self._lock:
                gate, users = self._gates[name]
                if users == 1:
                    del self._gates[name]
                else:
                    self._gates[name] = (gate, users - 1)
