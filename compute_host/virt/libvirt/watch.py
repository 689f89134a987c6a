"""Reports of guests that change by themselves.

libvirt's events come late and in bursts, also for the driver's own verbs; so an event only triggers a poll of the
guest. The power state that is found is reported, if it isn't known already.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Callable, Iterator

from cell_service.context import Clock
from cell_service.errors import GuestNotFound, PolycellError
from cell_service.logs import about
from cell_service.model.lifecycle import PowerState
from compute_host.virt.driver import Guest, PowerListener, Returned

log = logging.getLogger(__name__)

AGAIN_SECONDS = 1.0
TEND_SECONDS = 30.0


class Watch:
    """One thread that polls guests and reports. `examine` and `await_return` return at once."""

    def __init__(self, power_now: Callable[[str], PowerState], tend: Callable[[], object], clock: Clock) -> None:
        """`tend`: called every `TEND_SECONDS` while nothing happens."""
        self._power_now, self._tend, self._clock = power_now, tend, clock
        self._requested: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._known: dict[str, PowerState] = {}
        self._hushed: dict[str, int] = {}

    def start(self, listener: PowerListener, returned: Returned, guests: Callable[[], tuple[Guest, ...]]) -> None:
        """Start the thread. Raises DriverError when the guests can't be read."""
        self.stop()
        self._stopped.clear()
        with self._lock:
            self._known = {guest.uuid: guest.power_state for guest in guests()}
        self._thread = threading.Thread(
            target=self._run, args=(listener, returned, guests), name="libvirt-watch", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._requested.put(None)
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(5)

    def examine(self, uuid: str) -> None:
        self._requested.put(uuid)

    def await_return(self) -> None:
        """Connect to libvirt again, which is down, then call `returned`: after that the agent compares every guest
        anyway."""
        self._requested.put("")

    @contextlib.contextmanager
    def hushed(self, uuid: str) -> Iterator[None]:
        """Report nothing of the guest while a long verb runs, which causes its changes; poll it once afterwards."""
        with self._lock:
            self._hushed[uuid] = self._hushed.get(uuid, 0) + 1
        try:
            yield
        finally:
            with self._lock:
                self._hushed[uuid] -= 1
                if not self._hushed[uuid]:
                    del self._hushed[uuid]
            self.examine(uuid)

    def note(self, uuid: str, state: PowerState) -> None:
        """Record a state that the caller knows, so that it is not reported."""
        with self._lock:
            self._known[uuid] = state

    def forget(self, uuid: str) -> None:
        with self._lock:
            self._known.pop(uuid, None)

    def _run(self, listener: PowerListener, returned: Returned, guests: Callable[[], tuple[Guest, ...]]) -> None:
        while not self._stopped.is_set():
            uuid = self._next()
            if self._stopped.is_set():
                continue
            try:
                if uuid is None:
                    self._tend()
                elif uuid:
                    self._report(listener, uuid, self._power_now(uuid))
                else:
                    self._connect_again(guests)
                    returned()
            except GuestNotFound:
                self.forget(uuid or "")
            except PolycellError as error:
                log.warning("guest not looked at", extra=about(None, instance=uuid or None, reason=error))
            except Exception:
                log.exception("guest not looked at", extra=about(None, instance=uuid or None))

    def _next(self) -> str | None:
        """The next request; None after a while without any, or when the thread is to end."""
        try:
            return self._requested.get(timeout=TEND_SECONDS)
        except queue.Empty:
            return None

    def _connect_again(self, guests: Callable[[], tuple[Guest, ...]]) -> None:
        while not self._stopped.is_set():
            try:
                found = guests()
            except PolycellError:
                self._clock.wait(self._stopped, AGAIN_SECONDS)
                continue
            with self._lock:
                self._known = {guest.uuid: guest.power_state for guest in found}
            return

    def _report(self, listener: PowerListener, uuid: str, state: PowerState) -> None:
        with self._lock:
            if uuid in self._hushed:
                return
            news = self._known.get(uuid) is not state
            self._known[uuid] = state
        if news:
            listener(uuid, state)
