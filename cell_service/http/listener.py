"""An HTTP service on a port, with a loop on a thread or as a whole process; and a shutdown that refuses no client.

Several processes may listen on one port (SO_REUSEPORT). On draining, connections that wait to be accepted are
accepted first, then the port is closed; requests on connections that are still open are answered, the last one of
each with `Connection: close`.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import tornado.netutil

from cell_service.errors import Unavailable
from cell_service.http.connections import BoundedServer, Clients, ConnectionSettings
from cell_service.logs import about

log = logging.getLogger(__name__)

BACKLOG = 1024
IDLE_GRACE_SECONDS = 0.5
_POLL_SECONDS = 0.02


class Listener:
    """One service listening. `start` and `drain` may be called from any thread; `drain` twice is no error.

    `delegate` is tornado's, for the connections; `busy` says how many requests are being answered; `ended` is called
    when the last one is answered. `http` is for tornado's server.
    """

    def __init__(
        self,
        name: str,
        delegate: Any,
        *,
        busy: Callable[[], int],
        ended: Callable[[], None],
        drain_seconds: float = 5.0,
        **http: Any,
    ) -> None:
        self.name = name
        self._delegate, self._busy, self._end = delegate, busy, ended
        self._drain_seconds, self._http = drain_seconds, http
        self.settings, self.clients = ConnectionSettings(), Clients()
        self._sockets: list[socket.socket] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._open = True
        self._drained = threading.Event()

    @property
    def draining(self) -> bool:
        """Whether it has begun to stop."""
        return not self._open

    @property
    def port(self) -> int:
        """The port it listens on; for a configured 0, the one that the system chose."""
        return int(self._sockets[0].getsockname()[1])

    def bind(self, port: int = 0, address: str = "127.0.0.1", *, reuse_port: bool = False) -> None:
        """Bind the port. Raises Unavailable when another process has it."""
        try:
            self._sockets = tornado.netutil.bind_sockets(
                port, address, family=socket.AF_UNSPEC, backlog=BACKLOG, reuse_port=reuse_port
            )
        except OSError as error:
            raise Unavailable(reason=f"Cannot listen on {address}:{port}: {error.strerror}") from error

    def start(
        self,
        port: int = 0,
        address: str = "127.0.0.1",
        *,
        reuse_port: bool = False,
        settings: ConnectionSettings | None = None,
    ) -> None:
        """Listen (on the port that was bound before, if one was) and serve on a thread of its own. Connections are
        accepted when it returns. Raises Unavailable."""
        self.settings = settings or self.settings
        if not self._sockets:
            self.bind(port, address, reuse_port=reuse_port)
        ready: Future[None] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(ready)), name=f"{self.name}-loop", daemon=True
        )
        self._thread.start()
        ready.result(timeout=30)

    def serve(self) -> None:
        """Serve on this (the main) thread until SIGTERM or SIGINT, then drain. `bind` before."""
        asyncio.run(self._serve(None))

    def drain(self, seconds: float | None = None) -> None:
        """Take no new connections, finish what is being served (at most that long), stop. Waits for the end."""
        if self._loop is None or self._drained.is_set():
            return
        seconds = self._drain_seconds if seconds is None else seconds
        self._loop.call_soon_threadsafe(self._begin_drain, seconds)
        self._drained.wait(seconds + 10)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(5)

    async def _serve(self, ready: Future[None] | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        self._server = BoundedServer(self._delegate, self.settings, self.clients, **self._http)
        self._server.add_sockets(self._sockets)
        if ready is None:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._loop.add_signal_handler(number, self._begin_drain, self._drain_seconds)
        else:
            ready.set_result(None)
        log.info("serving", extra=about(None, service=self.name, port=self.port))
        await self._over.wait()
        self._end()
        self._drained.set()

    def _begin_drain(self, seconds: float) -> None:
        if self._open:
            self._open = False
            assert self._loop is not None
            self._draining = self._loop.create_task(self._drain(seconds))

    async def _drain(self, seconds: float) -> None:
        assert self._loop is not None
        log.info("draining", extra=about(None, service=self.name, open=self._busy()))
        self._server.conn_params.no_keep_alive = True
        self._accept_waiting(self._server)
        self._server.stop()
        until = self._loop.time() + seconds
        idle_since = self._loop.time()
        while self._loop.time() < until and self._server._connections:
            if self._busy():
                idle_since = self._loop.time()
            if self._loop.time() - idle_since > IDLE_GRACE_SECONDS:
                break
            await asyncio.sleep(_POLL_SECONDS)
        await self._server.close_all_connections()
        log.info("drained", extra=about(None, service=self.name))
        self._over.set()

    def _accept_waiting(self, server: BoundedServer) -> None:
        """Accept the connections that the kernel has already made: closing the port would reset them."""
        for listening in self._sockets:
            while True:
                try:
                    connection, address = listening.accept()
                except (BlockingIOError, InterruptedError):
                    break
                except OSError:
                    log.warning("cannot accept while draining", exc_info=True)
                    break
                connection.setblocking(False)
                server.accept(connection, address)
