"""The parts of a domain besides the guest's spec: its files, and the settings of its host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SPARE_PORTS = 8


@dataclass(frozen=True, slots=True)
class LaidDisk:
    """A disk's file in the guest's directory. `role`: root, ephemeral, swap or rescue."""

    role: str
    path: Path
    format: str


@dataclass(frozen=True, slots=True)
class Laid:
    """All files that a guest runs from. It boots from its rescue disk if it has one, else from the first disk."""

    disks: tuple[LaidDisk, ...]
    console: Path
    kernel: Path | None = None
    ramdisk: Path | None = None
    drive: Path | None = None
    drive_is_cdrom: bool = True

    @property
    def rescue_is_behind(self) -> bool:
        """Whether the guest has a rescue disk, behind its own disks."""
        return any(disk.role == "rescue" for disk in self.disks[1:])


@dataclass(frozen=True, slots=True)
class Sev:
    """The host's encryption of guests' memory (AMD SEV), as its libvirt reports it."""

    cbitpos: int
    reduced_phys_bits: int


@dataclass(frozen=True, slots=True)
class Choices:
    """The host's settings for all its guests, and its abilities that decide how they are made."""

    host: str
    kvm: bool
    name_prefix: str = ""
    cpu_mode: str = "none"
    cpu_models: tuple[str, ...] = ()
    cpu_flags: tuple[str, ...] = ()
    """Features that processors have (`aes`, `+aes`) or have not (`-aes`) whatever their model says."""
    machine: str = "pc"
    cache: str | None = None
    volume_caches: Mapping[str, str] = field(default_factory=dict)
    """How the host caches volumes: none, unless it says otherwise of the kind of their sources."""
    discard: str | None = None
    io: str | None = None
    """native, threads or io_uring; None: QEMU's choice."""
    spare_ports: int = SPARE_PORTS
    user_networking: bool = False
    secure_boot: bool = False
    """Whether the host has it, for images with `os_secure_boot` = optional."""
    sev: Sev | None = None
    rng_source: str = "/dev/urandom"
    memory_stats_seconds: int = 10
    """Interval in which guests report the use of their memory; 0: they don't."""
    file_backed_memory: bool = False


@dataclass(frozen=True, slots=True)
class Listen:
    """Where a console of a guest listens: at a socket, if there is one, else at a port of an address (0: libvirt
    chooses one)."""

    address: str = ""
    port: int = 0
    socket: str = ""


@dataclass(frozen=True, slots=True)
class Consoles:
    """A guest's consoles; it has none of the kinds that are None."""

    vnc: Listen | None = None
    spice: Listen | None = None
    serial: Listen | None = None

    @property
    def has_screen(self) -> bool:
        return self.vnc is not None or self.spice is not None


NO_CONSOLES = Consoles()


def domain_name(prefix: str, uuid: str) -> str:
    return f"{prefix}instance-{uuid}"


def tap_name(port_id: str) -> str:
    """The name of the port's tap device, which may have at most 15 characters."""
    return f"tap{port_id[:11]}"
