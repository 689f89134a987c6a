"""LUKS, version 1, as QEMU writes and reads it: what a volume type says of it, and what a header says of itself."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cell_service.errors import Invalid

PROVIDER = "luks"
PROVIDERS = frozenset({PROVIDER, "LuksEncryptor"})
"""The names of the provider in volume types, whatever module they say it is in."""
CIPHER, KEY_BITS = "aes-xts-plain64", 256
"""Of types that name none."""
SECTOR_BYTES = 512
HEAD_BYTES = 4096
"""The beginning of a volume, in which all of a header is but its keys."""
MOST_HEADER_BYTES = 2**21
"""No header that QEMU makes is larger."""
_MAGIC = b"LUKS\xba\xbe"
_VERSION, _PAYLOAD = slice(6, 8), slice(104, 108)
_CIPHERS = ("aes", "serpent", "twofish")
_MODES = ("xts", "cbc", "ctr")
_IVGENS = ("plain", "plain64", "essiv:sha256")
_BITS = (128, 192, 256)
_OPEN_MILLISECONDS = 10
"""How long an attempt to open the header takes. The passphrases are random keys, so that no attempt has to be slow."""


@dataclass(frozen=True, slots=True)
class Encryption:
    """The words of the block storage service on a volume's encryption: GET /volumes/{id}/encryption."""

    key_id: str
    provider: str
    cipher: str = CIPHER
    key_bits: int = KEY_BITS

    @property
    def creation(self) -> list[str]:
        """The options with which qemu-img makes it, but the one that names the passphrase. Raises Invalid for a cipher
        that QEMU has not."""
        cipher, mode, ivgen = (*self.cipher.split("-"), "", "", "")[:3]
        known = cipher in _CIPHERS and mode in _MODES and ivgen in _IVGENS and self.cipher.count("-") == 2
        if not known or self.key_bits not in _BITS:
            raise Invalid(reason=f"there is no cipher {self.cipher} with keys of {self.key_bits} bits")
        ivgen, _, digest = ivgen.partition(":")
        said = {
            "cipher-alg": f"{cipher}-{self.key_bits}",
            "cipher-mode": mode,
            "ivgen-alg": ivgen,
            "iter-time": str(_OPEN_MILLISECONDS),
            **({"ivgen-hash-alg": digest} if digest else {}),
        }
        return [f"{name}={value}" for name, value in said.items()]


def encryption_of(said: Mapping[str, Any]) -> Encryption:
    """Raises Invalid, with the reason, for one that is not QEMU's to do."""
    provider = str(said.get("provider") or "")
    if provider.rpartition(".")[2] not in PROVIDERS:
        raise Invalid(reason=f"the provider {provider or 'none'} is not {PROVIDER}")
    if (location := said.get("control_location") or "front-end") != "front-end":
        raise Invalid(reason=f"its control location is {location}: only hosts (front-end) encrypt")
    cipher, bits = str(said.get("cipher") or CIPHER), int(said.get("key_size") or KEY_BITS)
    return Encryption(str(said.get("encryption_key_id") or ""), provider, cipher, bits)


def passphrase_of(key: bytes) -> str:
    """The passphrase that opens a volume of this key: as Nova, Cinder and os-brick have it."""
    return key.hex()


def version_of(head: bytes) -> int | None:
    """The version of LUKS with which a volume begins; None where it does not begin with it."""
    return int.from_bytes(head[_VERSION], "big") if head.startswith(_MAGIC) else None


def payload_offset(head: bytes) -> int:
    """Where, in bytes, the content begins of a volume with this head."""
    return int.from_bytes(head[_PAYLOAD], "big") * SECTOR_BYTES


@contextlib.contextmanager
def passphrase_object(passphrase: str) -> Iterator[str]:
    """The `--object` by which QEMU's programs have the passphrase as `key`. It is in a file without a name, in memory:
    neither on a disk nor among the words of a command."""
    file = os.memfd_create("passphrase")
    try:
        os.write(file, passphrase.encode())
        yield f"secret,id=key,file=/proc/{os.getpid()}/fd/{file}"
    finally:
        os.close(file)
