"""Encrypted volumes that hold nothing yet get their LUKS header from the host that connects to them first.

The block storage services of others leave that to hosts. What is on a volume is never lost by it: it gets a header only
when all of it is zeros. While the header is written the volume begins with a mark, in the place of the header's first
sector, which is written last. So a volume with the mark is one that no guest has had yet, and is formatted again.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

from cell_service.errors import DriverError, Invalid
from cell_service.logs import about
from compute_host.virt import luks
from compute_host.virt.libvirt.domain.sources import VolumeSource
from compute_host.virt.libvirt.drive import make_luks, run
from compute_host.virt.luks import HEAD_BYTES, SECTOR_BYTES, Encryption

log = logging.getLogger(__name__)

MARK = b"polycell: the LUKS header of this volume is being written".ljust(SECTOR_BYTES, b"\0")
READ_SECONDS = 6 * 3600.0
"""The most that it takes to read a volume whose storage does not say where it is empty."""


def prepare(volume_id: str, source: VolumeSource, passphrase: str, encryption: Encryption, *, alone: bool) -> None:
    """The volume begins with a LUKS header that QEMU reads; one that is blank gets it. `alone`: no other server may
    have the volume now, and it may be written. Raises DriverError for any other content, which is as it was."""
    place = options_of(source)
    if place is None:
        return  # QEMU alone reaches it, and its service formats it
    head = _head(place)
    match luks.version_of(head):
        case None:
            pass
        case 1:
            return
        case version:
            raise DriverError(reason=f"Volume {volume_id} has LUKS of version {version}, and QEMU reads version 1.")
    if not head.startswith(MARK) and not _is_blank(place):
        raise DriverError(reason=f"Volume {volume_id} is to be encrypted, but what is on it is not: it is left so.")
    if not alone:
        raise DriverError(reason=f"Volume {volume_id} has no LUKS header, and other servers may be about to write one.")
    try:
        options = encryption.creation
    except Invalid as error:
        raise DriverError(reason=f"Volume {volume_id} cannot be formatted: {error}.") from error
    _format(place, passphrase, options)
    log.info("volume formatted with LUKS", extra=about(None, volume=volume_id))


def header_bytes(source: VolumeSource) -> int:
    """How much of a volume is LUKS's own. Raises DriverError."""
    place = options_of(source)
    return 0 if place is None else luks.payload_offset(_head(place))


def options_of(source: VolumeSource) -> str | None:
    """The file of the source as QEMU's programs name it in an image's options; None for one that they can't reach."""
    if source.kind in ("file", "block"):
        if source.format != "raw":
            raise DriverError(reason=f"An encrypted volume in a file of format {source.format} cannot be had.")
        name = source.attributes["file" if source.kind == "file" else "dev"]
        words = {"driver": "file" if source.kind == "file" else "host_device", "filename": name}
    elif source.attributes.get("protocol") == "nbd":
        (host,) = source.hosts
        if "socket" in host:
            server = {"server.type": "unix", "server.path": host["socket"]}
        else:
            server = {"server.type": "inet", "server.host": host["name"], "server.port": host["port"]}
        words = {"driver": "nbd", "export": source.attributes["name"], **server}
    else:
        return None
    return ",".join(f"file.{name}={value.replace(',', ',,')}" for name, value in words.items())


def _head(place: str) -> bytes:
    """The beginning of the volume. Raises DriverError."""
    with tempfile.TemporaryDirectory(prefix="polycell-luks-") as name:
        head = Path(name) / "head"
        beginning = f"driver=raw,offset=0,size={HEAD_BYTES},{place}"
        run(["qemu-img", "convert", "--image-opts", beginning, "-O", "raw", head])
        return head.read_bytes()


def _is_blank(place: str) -> bool:
    """Whether all of the volume is zeros. What its storage knows to be empty is not read."""
    zeros = f"driver=null-co,size={SECTOR_BYTES},read-zeroes=on"
    said = run(["qemu-img", "compare", "--image-opts", f"driver=raw,{place}", zeros], READ_SECONDS, accepted=(0, 1))
    return "identical" in said


def _format(place: str, passphrase: str, wanted: list[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="polycell-luks-") as name:
        made = Path(name) / "header"
        with luks.passphrase_object(passphrase) as secret:
            options = ",".join(["key-secret=key", *wanted])
            size = str(SECTOR_BYTES)
            make_luks(["qemu-img", "create", "-q", "-f", "luks", "--object", secret, "-o", options, made, size])
        content = made.read_bytes()
        content = content[: luks.payload_offset(content)]
        for offset, part in ((0, MARK), (SECTOR_BYTES, content[SECTOR_BYTES:]), (0, content[:SECTOR_BYTES])):
            made.write_bytes(part)
            write(made, place, offset, len(part))


def write(part: Path, place: str, offset: int, size: int) -> None:
    """Write the file to the volume, there; it is on the disk when this returns. Raises DriverError."""
    target = f"driver=raw,offset={offset},size={size},{place}"
    run(["qemu-img", "convert", "-n", "-t", "writethrough", "-f", "raw", "--target-image-opts", part, target])
