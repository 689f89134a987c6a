"""The reports of devices that guests release: a device is detached when its guest has done so."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class Removal:
    """`over` is set once the hypervisor has reported of the device; `refused`: the guest keeps it."""

    over: threading.Event = field(default_factory=threading.Event)
    refused: bool = False


class Removals:
    """Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._awaited: dict[tuple[str, str], list[Removal]] = {}

    @contextlib.contextmanager
    def awaited(self, uuid: str, alias: str) -> Iterator[Removal]:
        """The removal of the guest's device of that alias, of which is reported meanwhile."""
        key, made = (uuid, alias), Removal()
        with self._lock:
            self._awaited.setdefault(key, []).append(made)
        try:
            yield made
        finally:
            with self._lock:
                self._awaited[key].remove(made)
                if not self._awaited[key]:
                    del self._awaited[key]

    def report(self, uuid: str, alias: str, refused: bool) -> None:
        """Called on the thread of libvirt's events; returns at once."""
        with self._lock:
            for each in self._awaited.get((uuid, alias), ()):
                each.refused = refused
                each.over.set()
