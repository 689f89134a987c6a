"""The bytes of encrypted volumes: LUKS, as QEMU writes it for hosts whose QEMU reads it. Guests never see its header,
so they see a little less than the volume's size."""

from __future__ import annotations

from pathlib import Path

from compute_host.virt import luks
from compute_host.virt.libvirt.drive import make_luks
from compute_host.virt.luks import SECTOR_BYTES, Encryption

SECONDS = 6 * 3600.0


def write_blank(target: Path, encryption: Encryption, key: bytes) -> None:
    """The file is the header of a volume that has nothing in it; it becomes a volume when it gets its size. Raises
    DriverError."""
    with luks.passphrase_object(luks.passphrase_of(key)) as secret:
        make_luks(["qemu-img", "create", "-q", "-f", "luks", "--object", secret, "-o", _options(encryption), target,
                   str(SECTOR_BYTES)])  # fmt: skip


def encrypt(content: Path, target: Path, encryption: Encryption, key: bytes) -> None:
    """Write the raw content to the other file, encrypted. Raises DriverError, HostOutOfSpace."""
    with luks.passphrase_object(luks.passphrase_of(key)) as secret:
        make_luks(["qemu-img", "convert", "-f", "raw", "-O", "luks", "--object", secret, "-o", _options(encryption),
                   content, target], seconds=SECONDS)  # fmt: skip


def _options(encryption: Encryption) -> str:
    return ",".join(["key-secret=key", *encryption.creation])
