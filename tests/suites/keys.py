"""A key manager in memory, for encrypted volumes."""

from __future__ import annotations

import os
from uuid import uuid4

from cell_service.errors import KeyNotFound, PeerUnavailable


class MemoryKeys:
    """`down`: no answers."""

    are_reachable = True

    def __init__(self) -> None:
        self.known: dict[str, bytes] = {}
        self.down = False

    def get(self, key_id: str) -> bytes:
        self._demand_up()
        try:
            return self.known[key_id]
        except KeyError:
            raise KeyNotFound(key_id=key_id) from None

    def create(self, algorithm: str, bits: int) -> str:
        self._demand_up()
        return self._added(os.urandom(bits // 8))

    def copy(self, key_id: str) -> str:
        return self._added(self.get(key_id))

    def delete(self, key_id: str) -> None:
        self._demand_up()
        self.known.pop(key_id, None)

    def _added(self, key: bytes) -> str:
        key_id = str(uuid4())
        self.known[key_id] = key
        return key_id

    def _demand_up(self) -> None:
        if self.down:
            raise PeerUnavailable(service="key manager", reason="it is down")
