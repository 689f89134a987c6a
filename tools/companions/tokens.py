"""Who asks, remembered for a few seconds; for several threads."""

from __future__ import annotations

import threading

from api_cell.edge.auth import Authenticator, Identity, TokenMemory
from cell_service.context import SYSTEM_CLOCK
from cell_service.errors import Unauthenticated


class Known:
    """An Authenticator's answers, each for so many seconds. Raises what it raises."""

    def __init__(self, authenticator: Authenticator, seconds: float) -> None:
        self._authenticator = authenticator
        self._memory = TokenMemory(seconds, SYSTEM_CLOCK)
        self._lock = threading.Lock()

    def identify(self, token: str, service_token: str | None) -> Identity:
        key = TokenMemory.key(token, service_token)
        with self._lock:
            found = self._memory.find(key)
        if found is not None:
            return found
        try:
            identity = self._authenticator.authenticate(token, service_token)
        except Unauthenticated:
            with self._lock:
                self._memory.keep(key, None)
            raise
        with self._lock:
            self._memory.keep(key, identity)
        return identity
