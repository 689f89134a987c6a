"""Diagnostics of a guest, as its hypervisor reports them (Nova API reference, server diagnostics, microversion
2.48)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CpuUse:
    """`time` in nanoseconds, `utilisation` in percent."""

    id: int
    time: int | None = None
    utilisation: int | None = None


@dataclass(frozen=True, slots=True)
class NicUse:
    """Bytes, packets and errors since the guest started; the guest's view of in and out."""

    mac: str
    device: str = ""
    rx_octets: int | None = None
    rx_errors: int | None = None
    rx_drop: int | None = None
    rx_packets: int | None = None
    rx_rate: int | None = None
    tx_octets: int | None = None
    tx_errors: int | None = None
    tx_drop: int | None = None
    tx_packets: int | None = None
    tx_rate: int | None = None


@dataclass(frozen=True, slots=True)
class DiskUse:
    """Bytes and requests since the guest started."""

    device: str = ""
    read_bytes: int | None = None
    read_requests: int | None = None
    write_bytes: int | None = None
    write_requests: int | None = None
    errors_count: int | None = None


@dataclass(frozen=True, slots=True)
class GuestDiagnostics:
    """`state`: pending, running, paused, shutdown, crashed or suspended; `uptime` in seconds; memory in MiB."""

    state: str
    driver: str
    hypervisor: str
    hypervisor_os: str = "linux"
    uptime: int | None = None
    config_drive: bool = False
    memory_maximum: int | None = None
    memory_used: int | None = None
    cpus: tuple[CpuUse, ...] = ()
    nics: tuple[NicUse, ...] = ()
    disks: tuple[DiskUse, ...] = ()
