"""A cell's queue as a process uses it: a transport opened at the first use, closed when idle, behind its guard."""

from __future__ import annotations

import threading
from collections.abc import Callable

from cell_service.context import Clock, Deadline
from cell_service.errors import CellUnavailable, DeadlineExceeded, NoConsumer, QueueUnavailable
from cell_service.rpc.transport import Handler, Subscription, Transport
from mapping_db.cells.bulkhead import Flight
from mapping_db.cells.guard import Guard, ProbeFailed

OpenTransport = Callable[[str], Transport]

PROBE_SECONDS = 0.4


class CellBus:
    """A Transport that raises CellUnavailable when the queue itself fails."""

    def __init__(
        self, cell: str, url: str, clock: Clock, *, places: int, waiting: int, open_transport: OpenTransport,
        patience: float = 1.0,
    ) -> None:  # fmt: skip
        self.url = url
        self.guard = Guard(cell, "queue", self, clock, places, waiting, patience)
        self._clock, self._open_transport = clock, open_transport
        self._probe_seconds = PROBE_SECONDS * patience
        self._opening = threading.Lock()
        self._transport: Transport | None = None

    def cast(self, topic: str, body: bytes, *, timeout: float) -> None:
        """Raises NoConsumer, CellUnavailable."""
        with self.guard.flight(Deadline.after(timeout, self._clock)):
            try:
                self._opened(topic).cast(topic, body, timeout=timeout)
            except (QueueUnavailable, DeadlineExceeded) as error:
                raise self._failed(error) from error

    def call(self, topic: str, body: bytes, *, timeout: float) -> bytes:
        """Raises NoConsumer, CellUnavailable, and DeadlineExceeded when the peer, not the queue, is late."""
        with self.guard.flight(Deadline.after(timeout, self._clock)):
            try:
                return self._opened(topic).call(topic, body, timeout=timeout)
            except QueueUnavailable as error:
                raise self._failed(error) from error

    def serve(self, topic: str, handler: Handler, *, threads: int = 4) -> Subscription:
        return self._opened(topic).serve(topic, handler, threads=threads)

    def ping(self, *, timeout: float) -> None:
        self._opened("ping").ping(timeout=timeout)

    def close(self) -> None:
        self.shut()

    # -- for the guard --------------------------------------------------------------------------

    def probe(self) -> None:
        try:
            self._opened("ping").ping(timeout=self._probe_seconds)
        except (QueueUnavailable, DeadlineExceeded) as error:
            raise ProbeFailed(_reason(error), unreachable=True) from error

    def cut_off(self) -> None:
        """Close the transport, on a thread of its own since that may wait for the server: its callers return."""
        threading.Thread(target=self.shut, name="close-transport", daemon=True).start()

    def cut_one(self, flight: Flight) -> None:
        """Do nothing: transports have time-outs of their own."""

    def shut(self) -> None:
        """Close the connection; the next use opens a new one."""
        with self._opening:
            closing, self._transport = self._transport, None
        if closing is not None:
            closing.close()

    def _opened(self, topic: str) -> Transport:
        transport = self._transport
        if transport is not None:
            return transport
        if self.url.partition(":")[0] in ("", "none"):
            raise NoConsumer(topic=topic)
        with self._opening:
            if self._transport is None:
                try:
                    self._transport = self._open_transport(self.url)
                except QueueUnavailable:
                    raise
                except Exception as error:  # a URL is outside data: any driver may refuse it with its own error
                    raise QueueUnavailable(reason=f"its URL is not usable ({type(error).__name__})") from error
            return self._transport

    def _failed(self, error: QueueUnavailable | DeadlineExceeded) -> CellUnavailable:
        self.guard.suspect()
        return self.guard.unavailable(_reason(error))


def _reason(error: QueueUnavailable | DeadlineExceeded) -> str:
    return str(error.fields["reason"]) if isinstance(error, QueueUnavailable) else str(error)
