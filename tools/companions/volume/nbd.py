"""Volumes served over NBD: one qemu-nbd for each that an attachment's host is connected to, at a unix socket.

One thread starts and ends them all: they are its children, and end with it. What is written is in the volume's file
when it is answered; a guest's flush is one to the disk.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from cell_service.errors import DriverError, Invalid, PolycellError
from cell_service.logs import about
from tools.companions.volume.exports import common
from tools.companions.volume.files import Files
from tools.companions.volume.qemu_nbd import await_stop, forget, socket_directory, start, stop
from tools.companions.volume.store import Record

log = logging.getLogger(__name__)

T = TypeVar("T")
WATCH_SECONDS = 0.2
AGAIN_SECONDS = 1.0
"""Between two tries to start a server that failed."""
COPY_SECONDS = 20.0
"""So long does an attachment wait for a copy of its volume to end."""


@dataclass(slots=True)
class _Server:
    """`again_at`: when the next try is due to start it, on the monotonic clock."""

    process: subprocess.Popen[bytes]
    again_at: float = 0.0


class NbdExports:
    """See `exports.Exporter`. `wanted`: whether an attachment of that volume has a connector. `group`: the id of the
    group that may open the sockets; None: the own user alone may."""

    def __init__(self, files: Files, state: Path, wanted: Callable[[str], bool], group: int | None = None) -> None:
        self._files, self._wanted, self._group = files, wanted, group
        self._directory = socket_directory(state.absolute(), group)
        self._servers: dict[str, _Server] = {}
        self._held: Counter[str] = Counter()
        self._later: set[str] = set()
        """Held ones that are to follow their attachments when they are released."""
        self._stale: set[str] = set()
        """Held ones that are to be started again when they are released."""
        self._missing: dict[str, float] = {}
        """Those that could not follow their attachments by themselves, and when the next try is due."""
        self._freed = threading.Condition()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="volume exports")
        self._closing = threading.Event()
        self._watcher = threading.Thread(target=self._watch_all, name="volume watch", daemon=True)
        self._watcher.start()

    def follow(self, volume_id: str) -> None:
        until = time.monotonic() + COPY_SECONDS
        while not self._call(partial(self._follow, volume_id)):
            with self._freed:
                self._freed.wait(min(1.0, max(0.0, until - time.monotonic())))
            if time.monotonic() > until:
                raise Invalid(reason=f"Invalid volume: Volume {volume_id} is being copied, so it cannot be attached.")

    def restore(self, volume_ids: Iterable[str]) -> None:
        self._missing.update(dict.fromkeys(volume_ids, 0.0))
        self._call(self._watch)

    def hold(self, volume_id: str) -> bool:
        return self._call(partial(self._hold, volume_id))

    def release(self, volume_id: str) -> None:
        with contextlib.suppress(DriverError):  # all exports have ended
            self._call(partial(self._release, volume_id))
        with self._freed:
            self._freed.notify_all()

    def resize(self, volume_id: str) -> None:
        self._call(partial(self._resize, volume_id))

    def info(self, attachment: Record) -> dict[str, Any]:
        return {
            "driver_volume_type": "nbd", **common(attachment), "export": export_name(attachment["volume_id"]),
            "socket": str(self.socket(attachment["volume_id"])), "discard": True, "qos_specs": None,
        }  # fmt: skip

    def close(self) -> None:
        self._closing.set()
        self._watcher.join()
        with contextlib.suppress(DriverError):  # closed before
            self._call(self._end_all)
        self._thread.shutdown()
        with contextlib.suppress(OSError):  # what is in it is not ours
            self._directory.rmdir()

    def socket(self, volume_id: str) -> Path:
        return self._directory / f"{volume_id}.sock"

    def _call(self, work: Callable[[], T]) -> T:
        try:
            future = self._thread.submit(work)
        except RuntimeError:
            raise DriverError(reason="The service ends, and serves no volumes any more.") from None
        return future.result()

    def _watch_all(self) -> None:
        while not self._closing.wait(WATCH_SECONDS):
            try:
                self._call(self._watch)
            except Exception:  # the edge of a thread, without which no server is started again
                log.exception("volume servers not watched")

    # -- on the thread that all servers are children of ------------------------------------------------

    def _watch(self) -> None:
        for volume_id, due in list(self._missing.items()):
            if time.monotonic() >= due:
                self._bring_back(volume_id)
        for volume_id in list(self._servers):
            self._revive(volume_id)

    def _bring_back(self, volume_id: str) -> None:
        try:
            self._follow(volume_id)
        except (PolycellError, OSError) as error:
            self._missing[volume_id] = time.monotonic() + AGAIN_SECONDS
            log.error("volume server not started", extra=about(None, volume=volume_id, reason=error))
        else:
            self._missing.pop(volume_id, None)

    def _end_all(self) -> None:
        for volume_id in list(self._servers):
            self._end(volume_id)

    def _follow(self, volume_id: str) -> bool:
        """False: the volume is held, and must be released before it can be exported."""
        wanted, server = self._wanted(volume_id), self._servers.get(volume_id)
        if server is None and not wanted:
            return True
        if server is not None and wanted and (self._held[volume_id] or server.process.poll() is None):
            return True
        if self._held[volume_id]:
            self._later.add(volume_id)
            return server is not None
        if wanted:
            self._servers[volume_id] = _Server(self._start(volume_id))
        else:
            self._end(volume_id)
        return True

    def _hold(self, volume_id: str) -> bool:
        self._held[volume_id] += 1
        server = self._servers.get(volume_id)
        if server is None:
            return False
        if self._held[volume_id] == 1 and server.process.poll() is None:
            server.process.send_signal(signal.SIGSTOP)
            await_stop(server.process)
        return True

    def _release(self, volume_id: str) -> None:
        self._held[volume_id] -= 1
        if self._held[volume_id] > 0:
            return
        del self._held[volume_id]
        server = self._servers.get(volume_id)
        if server is not None and server.process.poll() is None:
            server.process.send_signal(signal.SIGCONT)
        try:
            if volume_id in self._stale:
                self._resize(volume_id)
        except (DriverError, OSError) as error:  # it is started again like a dead one
            log.error("volume server not started", extra=about(None, volume=volume_id, reason=error))
        if volume_id in self._later:
            self._later.discard(volume_id)
            self._bring_back(volume_id)

    def _resize(self, volume_id: str) -> None:
        self._stale.discard(volume_id)
        if volume_id not in self._servers:
            return
        if self._held[volume_id]:
            self._stale.add(volume_id)
            return
        server = self._servers[volume_id]
        stop(server.process)
        self._servers[volume_id] = _Server(self._start(volume_id))  # after an error it is started again like a dead one

    def _revive(self, volume_id: str) -> None:
        """Start the server again, if it has died. One of a volume that is held comes back when that is released."""
        server = self._servers[volume_id]
        if server.process.poll() is None or self._held[volume_id] or time.monotonic() < server.again_at:
            return
        log.warning("volume server died", extra=about(None, volume=volume_id, code=server.process.returncode))
        try:
            self._servers[volume_id] = _Server(self._start(volume_id))
        except (DriverError, OSError) as error:
            server.again_at = time.monotonic() + AGAIN_SECONDS
            log.error("volume server not started", extra=about(None, volume=volume_id, reason=error))

    def _start(self, volume_id: str) -> subprocess.Popen[bytes]:
        """A server that listens. Raises DriverError, OSError."""
        process = start(self._files.path(volume_id), self.socket(volume_id), export_name(volume_id), self._group)
        log.info("volume served", extra=about(None, volume=volume_id, socket=str(self.socket(volume_id))))
        return process

    def _end(self, volume_id: str) -> None:
        stop(self._servers.pop(volume_id).process)
        forget(self.socket(volume_id))
        log.info("volume not served any more", extra=about(None, volume=volume_id))


def export_name(volume_id: str) -> str:
    return f"volume-{volume_id}"
