"""A cache of values that are valid for some seconds, by key."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

from cell_service.context import Clock

K = TypeVar("K")
V = TypeVar("V")

MAX_ENTRIES = 20_000


class TtlCache(Generic[K, V]):
    """Thread-safe and bounded: the entries that were written longest ago go first. `seconds` 0: nothing is kept."""

    def __init__(self, clock: Clock, seconds: float, max_entries: int = MAX_ENTRIES) -> None:
        self._clock, self._seconds, self._max_entries = clock, seconds, max_entries
        self._lock = threading.Lock()
        self._entries: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def get(self, key: K) -> V | None:
        """The value, while it is valid."""
        with self._lock:
            entry = self._entries.get(key)
            return entry[1] if entry is not None and self._clock.monotonic() < entry[0] else None

    def get_stale(self, key: K) -> V | None:
        """The value that was put last, valid or not."""
        with self._lock:
            entry = self._entries.get(key)
            return entry[1] if entry is not None else None

    def put(self, key: K, value: V) -> None:
        """Store the value; it is valid from now on."""
        if not self._seconds:
            return
        with self._lock:
            self._entries[key] = (self._clock.monotonic() + self._seconds, value)
            self._entries.move_to_end(key)
            if len(self._entries) > self._max_entries:
                self._entries.popitem(last=False)

    def drop(self, key: K) -> None:
        with self._lock:
            self._entries.pop(key, None)
