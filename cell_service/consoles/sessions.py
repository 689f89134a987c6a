"""The open consoles of a proxy. Those whose server is gone, moved or rebuilt are closed within seconds."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from cell_service.context import SYSTEM_CLOCK, Clock
from cell_service.logs import about
from cell_service.loop import Duty, Loop
from cell_service.model.console import ConsoleToken

log = logging.getLogger(__name__)

SECONDS = 5.0
GONE = "The server is gone, has moved or is rebuilt."
EXPIRED = "The time of this console is over."

Ended = Callable[[Collection[ConsoleToken]], Collection[ConsoleToken]]
"""Those of the open consoles that are to be closed; a cell that does not answer names none. Raises PolycellError."""


def never(_opened: Collection[ConsoleToken]) -> Collection[ConsoleToken]:
    """No console is to be closed."""
    return ()


@dataclass(frozen=True, slots=True)
class SessionRules:
    """When an open console is closed although its client and its guest would go on."""

    ended: Ended = never
    with_token: bool = False
    """Whether it is closed when its token expires."""
    clock: Clock = SYSTEM_CLOCK
    seconds: float = SECONDS


@dataclass(eq=False, slots=True)
class Session:
    """An open console. `close`: called with the reason, by any thread."""

    token: ConsoleToken
    close: Callable[[str], None] = field(repr=False)


class Sessions:
    """Thread-safe. `start` and `stop` it."""

    def __init__(self, rules: SessionRules) -> None:
        self._rules, self._lock = rules, threading.Lock()
        self._open: set[Session] = set()
        self._loop = Loop("console-sessions", [Duty("close consoles", self.check, rules.seconds)], rules.clock)
        self.start, self.stop = self._loop.start, self._loop.stop

    def __len__(self) -> int:
        with self._lock:
            return len(self._open)

    def add(self, session: Session) -> None:
        with self._lock:
            self._open.add(session)

    def remove(self, session: Session) -> None:
        with self._lock:
            self._open.discard(session)

    def check(self) -> None:
        """Close the consoles that are to be closed. Raises PolycellError."""
        with self._lock:
            opened = list(self._open)
        if not opened:
            return
        if self._rules.with_token:
            now = self._rules.clock.now()
            self._close([each for each in opened if each.token.expires_at <= now], EXPIRED)
        gone = set(self._rules.ended([each.token for each in opened]))
        self._close([each for each in opened if each.token in gone], GONE)

    def _close(self, sessions: list[Session], reason: str) -> None:
        for each in sessions:
            log.info("console closed", extra=about(None, instance=each.token.instance_uuid, reason=reason))
            each.close(reason)
