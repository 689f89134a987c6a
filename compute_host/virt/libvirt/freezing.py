"""Guests whose file systems are frozen while their disks are copied, and are thawed afterwards whatever happens.

A mark in the guest's directory says that it is frozen, or may be. Only an agent that has answered to the thaw removes
it, or the end of the guest; so also an agent of this host that was killed in between thaws the guest when it is back.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from cell_service.context import Clock
from cell_service.errors import GuestNotFound, PolycellError
from cell_service.logs import about
from cell_service.model.guest_agent import Quiesce
from compute_host.virt.libvirt import guest_agent
from compute_host.virt.libvirt.gates import Gates
from compute_host.virt.libvirt.guest_agent import GuestAgentAbsent
from compute_host.virt.libvirt.storage import Storage

log = logging.getLogger(__name__)

MARK = "frozen"
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 60.0


class Freezing:
    """One host's guests. `guest` yields the domain of a uuid, and raises GuestNotFound. Thread-safe."""

    def __init__(self, storage: Storage, guest: Callable[[str], AbstractContextManager[Any]], clock: Clock) -> None:
        self._storage, self._guest, self._clock = storage, guest, clock
        self.gates = Gates()
        """Locked while a guest is frozen, or thawed."""
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to thaw the guests that an earlier process has left frozen."""
        self._stopped.clear()
        self._thaw_later()

    def stop(self) -> None:
        self._stopped.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(5)

    @contextlib.contextmanager
    def frozen(self, uuid: str, quiesce: Quiesce) -> Iterator[None]:
        """The guest's file systems are frozen meanwhile. Raises GuestAgentFailed where that is required and impossible;
        GuestNotFound, DriverError."""
        with contextlib.ExitStack() as stack:
            if quiesce is not Quiesce.NO:
                stack.enter_context(self.gates.locked(uuid))
                try:
                    self._freeze(uuid)
                    stack.callback(self._thaw_or_later, uuid)
                except guest_agent.GuestAgentFailed as error:
                    if quiesce is Quiesce.REQUIRED:
                        raise
                    log.warning("guest copied without being quiesced", extra=about(None, instance=uuid, reason=error))
            yield

    def left(self) -> tuple[str, ...]:
        """The uuids of the guests that may be frozen."""
        return tuple(uuid for uuid in self._storage.uuids() if (self._storage.path(uuid) / MARK).exists())

    def _freeze(self, uuid: str) -> None:
        with self._guest(uuid) as found:
            mark, thawed_before = self._storage.path(uuid) / MARK, uuid not in self.left()
            try:
                mark.touch()
            except OSError as error:
                reason = f"was not called: its guest's directory cannot be written ({error.strerror})"
                raise GuestAgentAbsent(reason=reason) from error
            try:
                guest_agent.freeze(found)
            except GuestAgentAbsent:
                if thawed_before:
                    mark.unlink(missing_ok=True)
                raise
            except BaseException:
                self._thaw_or_later(uuid)
                raise

    def _thaw_or_later(self, uuid: str) -> None:
        """Thaw the guest now, or as soon as its agent answers. Raises nothing of what the guest does."""
        try:
            self._thaw(uuid)
        except PolycellError as error:
            log.warning("guest may still be frozen, tried again", extra=about(None, instance=uuid, reason=error))
            self._thaw_later()

    def _thaw(self, uuid: str) -> None:
        """Thaw the guest, if there is one that isn't off. Raises DriverError; then it has to be tried again."""
        with self.gates.locked(uuid):
            mark = self._storage.path(uuid) / MARK
            with contextlib.suppress(GuestNotFound), self._guest(uuid) as found:
                if found.isActive() or found.hasManagedSaveImage():
                    guest_agent.thaw(found)
            mark.unlink(missing_ok=True)

    def _thaw_later(self) -> None:
        with self._lock:
            running = self._thread is not None and self._thread.is_alive()
            if running or self._stopped.is_set() or not self.left():
                return
            self._thread = threading.Thread(target=self._run, name="libvirt-thaw", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while not self._stopped.is_set():
            for uuid in self.left():
                try:
                    self._thaw(uuid)
                    log.info("guest thawed", extra=about(None, instance=uuid))
                except PolycellError as error:
                    log.debug("guest not thawed yet", extra=about(None, instance=uuid, reason=error))
                except Exception:
                    log.exception("guest not thawed yet", extra=about(None, instance=uuid))
            with self._lock:
                if not self.left():
                    self._thread = None
                    return
            self._clock.wait(self._stopped, pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
