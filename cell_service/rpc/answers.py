"""Callers that wait for an answer which another thread receives."""

from __future__ import annotations

import contextlib
import threading
from queue import Empty, SimpleQueue

from cell_service.errors import DeadlineExceeded, PolycellError, QueueUnavailable


class PendingAnswer:
    """The answer for one waiting caller: bytes, or an error. Only the first one that is set counts."""

    __slots__ = ("_box",)

    def __init__(self) -> None:
        self._box: SimpleQueue[bytes | PolycellError] = SimpleQueue()

    def give(self, result: bytes | PolycellError) -> None:
        self._box.put(result)

    def wait(self, seconds: float, peer: str) -> bytes:
        """The bytes. Raises the error that was set, or DeadlineExceeded."""
        try:
            result = self._box.get(timeout=max(0.0, seconds))
        except Empty:
            raise DeadlineExceeded(peer=peer) from None
        if isinstance(result, bytes):
            return result
        raise result

    def settled(self, seconds: float) -> None:
        """Wait until bytes or an error are set, at most so long. `wait` may be called afterwards."""
        with contextlib.suppress(Empty):
            self._box.put(self._box.get(timeout=max(0.0, seconds)))


class PendingAnswers:
    """The answers that callers of one transport wait for; closed once, for good."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: set[PendingAnswer] = set()
        self._closed = False

    def enter(self) -> PendingAnswer:
        """Raises QueueUnavailable when the transport was closed."""
        answer = PendingAnswer()
        with self._lock:
            if self._closed:
                raise closed()
            self._answers.add(answer)
        return answer

    def leave(self, answer: PendingAnswer) -> None:
        with self._lock:
            self._answers.discard(answer)

    def close(self) -> bool:
        """Give every waiting caller QueueUnavailable. Returns whether this was the first call."""
        with self._lock:
            first, self._closed = not self._closed, True
            left = list(self._answers)
        for answer in left:
            answer.give(closed())
        return first


def closed() -> QueueUnavailable:
    return QueueUnavailable(reason="the connection was closed")
