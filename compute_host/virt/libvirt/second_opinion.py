"""An image as `qemu-img` sees it, before QEMU converts it or starts a guest from it: the inspection of its header
(`virt.inspection`) comes first, and finds what `qemu-img` itself must not open."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path
from typing import Any

from cell_service.errors import DriverError, HostOutOfSpace, ImageUnacceptable
from compute_host.virt.driver import Disk
from compute_host.virt.libvirt.drive import run

CHECKED = frozenset({"qcow2", "vdi", "vmdk", "vhdx"})
"""QEMU's names of the formats whose tables `qemu-img check` reads."""
LIMITS = ("prlimit", "--as=2147483648", "--cpu=60")
_LEAKS = 3
_CONTENT_ADDRESSED = re.compile("[0-9a-f]{40}")


class SecondOpinion:
    """Thread-safe. Files of the image cache, whose names change with their content, are examined once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sizes: dict[tuple[Path, int, int, str], int] = {}

    def examine(self, disk: Disk, kind: str, image_id: str) -> int:
        """The image's virtual size in bytes. `kind`: QEMU's name of its format. Raises ImageUnacceptable when it
        refers to other files, is damaged or cut off, or is larger than the disk."""
        assert disk.image is not None
        status = disk.image.stat()
        key = disk.image, status.st_ino, status.st_size, kind
        with self._lock:
            size = self._sizes.get(key)
        if size is None:
            size = _examined(disk.image, kind, image_id)
            if _CONTENT_ADDRESSED.fullmatch(disk.image.name):
                with self._lock:
                    self._sizes[key] = size
        if disk.size_bytes and size > disk.size_bytes:
            reason = f"its virtual size of {size} bytes exceeds the disk of {disk.size_gib} GiB"
            raise ImageUnacceptable(image_id=image_id, reason=reason)
        return size


def _examined(path: Path, kind: str, image_id: str) -> int:
    found = _answer(["info"], path, kind, image_id)
    more = (found.get("format-specific") or {}).get("data") or {}
    if found.get("backing-filename") or more.get("data-file"):
        raise ImageUnacceptable(image_id=image_id, reason="it refers to another file")
    if found.get("encrypted"):
        raise ImageUnacceptable(image_id=image_id, reason="it is encrypted")
    if kind in CHECKED:
        checked = _answer(["check"], path, kind, image_id)
        missing = checked.get("image-end-offset", 0) - path.stat().st_size
        if missing >= found.get("cluster-size", 1):  # the last cluster of a compressed image need not be whole
            raise ImageUnacceptable(image_id=image_id, reason="it was cut off")
    return int(found["virtual-size"])


def _answer(verb: list[str], path: Path, kind: str, image_id: str) -> dict[str, Any]:
    """The answer of qemu-img, which has bounded memory and time. Raises ImageUnacceptable."""
    try:
        text = run([*LIMITS, "qemu-img", *verb, "--output=json", "-f", kind, path], accepted=(0, _LEAKS))
        answer: dict[str, Any] = json.loads(text)
    except HostOutOfSpace:
        raise
    except DriverError as error:
        said = str(error).replace(str(path), "its file")
        raise ImageUnacceptable(image_id=image_id, reason=f"it is damaged: {said}") from error
    except ValueError as error:
        raise ImageUnacceptable(image_id=image_id, reason="it is damaged: qemu-img cannot describe it") from error
    return answer
