"""The images of a new cloud: a tiny one for simulated hosts, the guest of our own for real ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.guest.image import GuestImage, build
from tools.up.plan import Plan
from tools.up.tiny_image import tiny_qcow2

TINY, GUEST, GUEST_UEC = "tiny", "polycell-guest", "polycell-guest-uec"
GUEST_MEMORY_MIB = 128
"""The memory that the guest needs to unpack itself; 256 when UEFI starts it."""
BLANK_BYTES = 1 << 20
_COMMON = {"architecture": "x86_64", "os_type": "linux", "hw_rng_model": "virtio", "hw_qemu_guest_agent": "yes"}
_TINY = {"hw_rng_model": "virtio", "hw_qemu_guest_agent": "yes"}
"""A simulated guest's agent is simulated, too."""

Ask = Callable[..., Any]
"""(method, path, **more) -> what the Image API answers. Raises PeerUnavailable."""


@dataclass(frozen=True, slots=True)
class Upload:
    """An image to be, and its content."""

    name: str
    disk_format: str
    content: bytes | Path
    container_format: str = "bare"
    min_ram: int = 0
    min_disk: int = 0
    properties: dict[str, str] = field(default_factory=dict)


def upload_images(plan: Plan, ask: Ask) -> None:
    """Upload the images: each is there and active afterwards, once; those that are stay as they are.

    Raises PeerUnavailable, and Unavailable when there is no guest image.
    """
    if plan.driver != "libvirt":
        _ensure(ask, Upload(TINY, "qcow2", tiny_qcow2(), properties=_TINY))
        return
    upload_guest(build(plan.guest_cache), ask)


def upload_guest(guest: GuestImage, ask: Ask) -> None:
    """Its disk; and as the older way, an image whose disk is blank and that names a kernel and a ramdisk, two more
    images, of which the ramdisk is the whole system."""
    _ensure(ask, Upload(GUEST, "qcow2", guest.disk, min_ram=GUEST_MEMORY_MIB, min_disk=1, properties=_COMMON))
    kernel = _ensure(ask, Upload(f"{GUEST_UEC}-kernel", "aki", guest.kernel, "aki"))
    ramdisk = _ensure(ask, Upload(f"{GUEST_UEC}-ramdisk", "ari", guest.ramdisk, "ari"))
    named = {**_COMMON, "kernel_id": kernel, "ramdisk_id": ramdisk}
    _ensure(ask, Upload(GUEST_UEC, "ami", bytes(BLANK_BYTES), "ami", min_ram=GUEST_MEMORY_MIB, properties=named))


def _ensure(ask: Ask, upload: Upload) -> str:
    """The image's id. A record that a killed launcher left without content gets it now."""
    known = ask("GET", f"/v2/images?name={upload.name}")["images"]
    for image in known:
        if image["status"] == "active":
            return str(image["id"])
    waiting = [image for image in known if image["status"] == "queued"]
    image_id = waiting[0]["id"] if waiting else ask("POST", "/v2/images", json=_record(upload))["id"]
    headers = {"Content-Type": "application/octet-stream"}
    if isinstance(upload.content, Path):
        with upload.content.open("rb") as content:
            ask("PUT", f"/v2/images/{image_id}/file", data=content, headers=headers)
    else:
        ask("PUT", f"/v2/images/{image_id}/file", data=upload.content, headers=headers)
    return str(image_id)


def _record(upload: Upload) -> dict[str, Any]:
    return {
        "name": upload.name,
        "disk_format": upload.disk_format,
        "container_format": upload.container_format,
        "visibility": "public",
        "min_ram": upload.min_ram,
        "min_disk": upload.min_disk,
        **upload.properties,
    }
