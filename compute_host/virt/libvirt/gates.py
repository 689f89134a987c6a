"""One at a time for each guest."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


class Gates:
    """A lock for each name that somebody holds or waits for; may be taken again by the thread that holds it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._gates: dict[str, tuple[threading.RLock, int]] = {}

    @contextlib.contextmanager
    def held(self, name: str) -> Iterator[None]:
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
