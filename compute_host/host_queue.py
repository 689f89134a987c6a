"""Which cell's queue a host of this process serves: the configured one, until the host joins another cell.

The cell that a host has joined is recorded in a file alongside its guests. The record is valid while the configured URL
is the one that it replaced: a changed configuration takes precedence.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cell_service.logs import about
from cell_service.rpc.transport import Transport

log = logging.getLogger(__name__)

FILE = "cell.json"


class HostQueues:
    """The queues that hosts of one process use, each connected once. The caller closes `configured`."""

    def __init__(self, configured_url: str, configured: Transport, open_transport: Callable[[str], Transport]) -> None:
        self.configured_url = configured_url
        self._configured, self._open = configured, open_transport
        self._lock = threading.Lock()
        self._opened: dict[str, Transport] = {}

    def to(self, url: str) -> Transport:
        """The transport to that queue. Raises Invalid for a URL that names no queue server."""
        if url == self.configured_url:
            return self._configured
        with self._lock:
            if url not in self._opened:
                self._opened[url] = self._open(url)
            return self._opened[url]

    def close(self) -> None:
        with self._lock:
            for transport in self._opened.values():
                transport.close()

    def url_of(self, state: Path) -> str:
        """The URL of the queue of the host with that directory."""
        record = self._read(state)
        if record is None:
            return self.configured_url
        if record["instead_of"] != _digest(self.configured_url):
            log.warning(
                "transport_url has changed, and overrides the cell joined",
                extra=about(None, file=state / FILE),
            )
            return self.configured_url
        return str(record["transport_url"])

    def left(self, state: Path) -> str | None:
        """The URL of the queue of the cell that the host has left, until `forget_left`; None when there is none."""
        record = self._read(state)
        return None if record is None else record.get("left")

    def join(self, state: Path, url: str, cell_name: str, left: str | None = None) -> None:
        """Record that the host serves that queue after every start from now on, and has left the queue `left`."""
        if url == self.configured_url and left is None:
            (state / FILE).unlink(missing_ok=True)
            return
        state.mkdir(parents=True, exist_ok=True)
        record = {"cell": cell_name, "transport_url": url, "instead_of": _digest(self.configured_url), "left": left}
        self._write(state, record)

    def forget_left(self, state: Path) -> None:
        """Forget the cell that the host has left: it has nothing more to remove on the host."""
        record = self._read(state)
        if record is not None:
            self.join(state, str(record["transport_url"]), str(record["cell"]))

    def _read(self, state: Path) -> dict[str, Any] | None:
        try:
            record = json.loads((state / FILE).read_text(encoding="utf-8"))
            return {"left": None, **{name: record[name] for name in ("cell", "transport_url", "instead_of")}, **record}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            log.error(
                "the record of the cell joined cannot be read", extra=about(None, file=state / FILE, reason=error)
            )
            return None

    def _write(self, state: Path, record: dict[str, Any]) -> None:
        new = state / f"{FILE}.new"
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump(record, file)
            file.flush()
            os.fsync(file.fileno())
        new.rename(state / FILE)


def _digest(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()
