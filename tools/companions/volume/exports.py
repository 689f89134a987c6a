"""How hosts reach what is in volumes: not at all where only records are wanted, else over NBD (`nbd`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from tools.companions.volume.files import Files
from tools.companions.volume.store import Record


class Exporter(Protocol):
    """Exports the volumes of attachments. Thread-safe; each verb may be called again."""

    def follow(self, volume_id: str) -> None:
        """Export the volume, if an attachment has a connector, else end its export. Raises Invalid when the volume is
        being copied, DriverError, OSError when it can't be served."""

    def restore(self, volume_ids: Iterable[str]) -> None:
        """Export what was exported by an earlier process; what can't be served now is tried again and again."""

    def hold(self, volume_id: str) -> bool:
        """Nothing is written to the volume until `release`; guests wait. Answers whether it is exported."""

    def release(self, volume_id: str) -> None:
        """Guests may write again, when the last hold is released."""

    def resize(self, volume_id: str) -> None:
        """Hosts see the file's size when they connect to the export again; they are disconnected now."""

    def info(self, attachment: Record) -> dict[str, Any]:
        """How the attachment's host reaches the volume, as the block storage service gives it."""

    def close(self) -> None:
        """End all exports. Those of attachments come back with the next process."""


class Records:
    """Volumes are files that no other process uses."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def follow(self, volume_id: str) -> None:
        """Do nothing: there is no export."""

    def restore(self, volume_ids: Iterable[str]) -> None:
        """Do nothing: there is no export."""

    def hold(self, volume_id: str) -> bool:
        return False

    def release(self, volume_id: str) -> None:
        """Do nothing: nothing was held."""

    def resize(self, volume_id: str) -> None:
        """Do nothing: there is no export."""

    def info(self, attachment: Record) -> dict[str, Any]:
        return {
            "driver_volume_type": "local",
            "device_path": str(self._files.path(attachment["volume_id"])),
            **common(attachment),
        }

    def close(self) -> None:
        """Do nothing: there is no export."""


def common(attachment: Record) -> dict[str, Any]:
    """The fields that every connection has."""
    return {
        "volume_id": attachment["volume_id"],
        "attachment_id": attachment["id"],
        "access_mode": attachment["attach_mode"],
        "encrypted": bool(attachment.get("encrypted")),
    }
