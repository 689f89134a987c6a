"""The one connection of a host to its libvirtd: opened when needed, and again after libvirtd was down."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import libvirt

from cell_service.errors import DriverError, GuestNotFound, HostOutOfSpace, HypervisorAway, HypervisorFailed
from cell_service.logs import about

log = logging.getLogger(__name__)

KEEPALIVE_SECONDS, KEEPALIVE_COUNT = 5, 3
EventListener = Callable[[str, int, int], None]
"""Called with uuid, event and detail, on the thread of libvirt's events, which it must not block."""
RemovalListener = Callable[[str, str, bool], None]
"""Called in the same way with the uuid and the alias of a device that the guest has released, or (True) refused to."""

_loop_lock = threading.Lock()
_loop: threading.Thread | None = None
_BROKEN = frozenset(
    {
        libvirt.VIR_ERR_SYSTEM_ERROR,
        libvirt.VIR_ERR_INTERNAL_ERROR,
        libvirt.VIR_ERR_INVALID_CONN,
        libvirt.VIR_ERR_NO_CONNECT,
        libvirt.VIR_ERR_RPC,
    }
)
_WRONG_KEY = "cannot unlock any keyslot"
_FULL = ("no space left on device", "cannot allocate memory", "disk quota exceeded")


class Connection:
    """Thread-safe."""

    def __init__(self, uri: str, listener: EventListener, removals: RemovalListener, lost: Callable[[], None]) -> None:
        self._uri, self._listener, self._removals, self._lost = uri, listener, removals, lost
        self._lock = threading.Lock()
        self._open: Any = None
        self._closed = False
        self._events: list[int] = []

    @contextlib.contextmanager
    def use(self, uuid: str = "") -> Iterator[Any]:
        """The open connection (a virConnect); errors of libvirt inside become errors of this package.

        Raises GuestNotFound (of `uuid`), HostOutOfSpace, HypervisorAway, DriverError.
        """
        connection = self._opened()
        try:
            yield connection
        except libvirt.libvirtError as error:
            if error.get_error_code() in _BROKEN and self._dropped_if_dead(connection):
                raise HypervisorAway(reason=f"libvirt: {error}") from error
            raise named(error, uuid) from error

    def open(self) -> None:
        """Connect, if there is no connection. Raises DriverError."""
        with self._lock:
            self._closed = False
        with self.use():
            pass

    def close(self) -> None:
        with self._lock:
            self._closed, connection, self._open = True, self._open, None
        if connection is not None:
            self._release(connection)

    def _opened(self) -> Any:
        with self._lock:
            if self._closed:
                raise DriverError(reason="The driver is not connected.")
            if self._open is not None and not _alive(self._open):
                self._release(self._open)
                self._open = None
            if self._open is None:
                self._open = self._connected()
            return self._open

    def _connected(self) -> Any:
        _run_events()
        try:
            connection = libvirt.open(self._uri)
        except libvirt.libvirtError as error:
            raise HypervisorAway(reason=f"libvirt at {self._uri} does not answer: {error}") from error
        try:
            with contextlib.suppress(libvirt.libvirtError):
                connection.setKeepAlive(KEEPALIVE_SECONDS, KEEPALIVE_COUNT)
            connection.registerCloseCallback(self._went_away, None)
            for event, callback in (
                (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._happened),
                (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, self._removed),
                (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED, self._not_removed),
            ):
                self._events.append(connection.domainEventRegisterAny(None, event, callback, None))
        except libvirt.libvirtError as error:
            self._release(connection)
            raise HypervisorAway(reason=f"libvirt at {self._uri} does not answer: {error}") from error
        log.info("connected to libvirt", extra=about(None, uri=self._uri))
        return connection

    def _dropped_if_dead(self, connection: Any) -> bool:
        """Whether the connection is dead; then the next use opens another one."""
        if _alive(connection):
            return False
        with self._lock:
            if self._open is connection:
                self._open = None
                self._release(connection)
        return True

    def _release(self, connection: Any) -> None:
        """Close it. libvirt keeps a connection, and its descriptors, as long as a callback is registered."""
        while self._events:
            with contextlib.suppress(libvirt.libvirtError):
                connection.domainEventDeregisterAny(self._events.pop())
        with contextlib.suppress(libvirt.libvirtError):
            connection.unregisterCloseCallback()
        with contextlib.suppress(libvirt.libvirtError):
            connection.close()

    def _went_away(self, _connection: Any, reason: int, _opaque: None) -> None:
        if reason != libvirt.VIR_CONNECT_CLOSE_REASON_CLIENT:
            log.warning("libvirt went away", extra=about(None, uri=self._uri, reason=reason))
            self._lost()

    def _happened(self, _connection: Any, domain: Any, event: int, detail: int, _opaque: None) -> None:
        self._listener(domain.UUIDString(), event, detail)

    def _removed(self, _connection: Any, domain: Any, alias: str, _opaque: None) -> None:
        self._removals(domain.UUIDString(), alias, False)

    def _not_removed(self, _connection: Any, domain: Any, alias: str, _opaque: None) -> None:
        self._removals(domain.UUIDString(), alias, True)


def named(error: libvirt.libvirtError, uuid: str = "") -> DriverError:
    """The DriverError for an error of libvirt."""
    if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
        return GuestNotFound(uuid=uuid)
    words = str(error)
    if any(sign in words.lower() for sign in _FULL):
        log.warning("the hypervisor refuses a guest: %s", words)
        return HostOutOfSpace(reason="The host has not enough space for the guest.")
    if _WRONG_KEY in words:
        return DriverError(reason="The key of the volume does not open it.")
    return HypervisorFailed(reason=f"libvirt: {words}")


def _alive(connection: Any) -> bool:
    try:
        return bool(connection.isAlive() == 1)
    except libvirt.libvirtError:
        return False


def _run_events() -> None:
    """Run libvirt's events on one thread of the process, shared by all connections, from the first one on."""
    global _loop
    with _loop_lock:
        if _loop is None:
            libvirt.registerErrorHandler(lambda _context, _error: None, None)
            libvirt.virEventRegisterDefaultImpl()
            _loop = threading.Thread(target=_events, name="libvirt-events", daemon=True)
            _loop.start()


def _events() -> None:
    while True:
        try:
            libvirt.virEventRunDefaultImpl()
        except libvirt.libvirtError as error:
            log.warning("libvirt's event loop failed, going on", extra=about(None, reason=error))
