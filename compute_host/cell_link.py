"""A host's connection to its cell: the queue it serves and the conductor it reports to; and its change to another."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from cell_service.context import Context
from cell_service.errors import NotSupported
from cell_service.logs import about
from cell_service.model.host import NodeReport
from cell_service.rpc.conductor import Conductor, HostRegistration, HostStatus
from cell_service.rpc.contract import client
from cell_service.rpc.transport import Handler, Subscription, Transport
from compute_host.host_queue import HostQueues

log = logging.getLogger(__name__)

VERSION = 1


class CellLink:
    """`changing` is locked while operations are claimed, and while the host changes its cell. Thread-safe."""

    def __init__(self, host: str, state: Path, transport: Transport, queues: HostQueues | None) -> None:
        self._host, self._state, self._queues = host, state, queues
        self._transport = transport
        self.conductor = client(Conductor, transport)
        self._url = queues.url_of(state) if queues else ""
        self._url_to_join = self._url
        self._handler: Handler | None = None
        self._subscription: Subscription | None = None
        self.changing = threading.Lock()

    @property
    def is_leaving(self) -> bool:
        """Whether the host is to join another cell than the one it belongs to."""
        return self._url != self._url_to_join

    def serve(self, handler: Handler) -> None:
        """Serve the cell's messages to the host. A second call changes nothing."""
        if self._subscription is None:
            self._handler = handler
            self._subscription = self._subscribe(self._transport)

    def stop(self, grace_seconds: float) -> None:
        """Take no new messages, and finish running handlers within the grace."""
        if self._subscription is not None:
            self._subscription.stop(grace_seconds)

    def register(self, ctx: Context, nodes: tuple[NodeReport, ...]) -> HostStatus:
        """Register the host with its cell. Raises Unavailable."""
        return self.conductor.register_host(ctx, HostRegistration(self._host, VERSION, nodes))

    def plan_join(self, transport_url: str, cell_name: str) -> None:
        """Record that the host belongs to that cell after its next start, and from `join` on. Raises NotSupported,
        Invalid."""
        if self._queues is None:
            raise NotSupported(reason="This host cannot change its cell.")
        self._queues.to(transport_url)
        left = None if transport_url == self._url else self._url
        self._queues.join(self._state, transport_url, cell_name, left)
        self._url_to_join = transport_url

    def join(self, ctx: Context, nodes: tuple[NodeReport, ...], is_idle: Callable[[], bool]) -> HostStatus | None:
        """Change to the planned cell: the host registers there before it leaves the old one.

        None: no change is planned, or the host has work of the old cell. Raises Unavailable.
        """
        url = self._url_to_join
        if self._queues is None or url == self._url or not is_idle():
            return None
        transport = self._queues.to(url)
        conductor = client(Conductor, transport)
        status = conductor.register_host(ctx, HostRegistration(self._host, VERSION, nodes))
        with self.changing:
            if not is_idle():
                return None  # just claimed; when it ends, the host tries again
            left, self._subscription = self._subscription, self._subscribe(transport)
            self._transport, self.conductor, self._url = transport, conductor, url
        if left is not None:
            left.stop()
        log.info("host has changed its cell", extra=about(ctx, host=self._host))
        return status

    def left_conductor(self) -> Conductor | None:
        """The conductor of the cell that the host has left, until `forget_left` is called."""
        left = self._queues.left(self._state) if self._queues is not None else None
        if self._queues is None or left is None or left == self._url:
            return None
        return client(Conductor, self._queues.to(left))

    def forget_left(self) -> None:
        """Forget the cell that the host has left: it has nothing more to remove on the host."""
        if self._queues is not None:
            self._queues.forget_left(self._state)

    def _subscribe(self, transport: Transport) -> Subscription:
        assert self._handler is not None
        return transport.serve(f"compute.{self._host}", self._handler, threads=2)
