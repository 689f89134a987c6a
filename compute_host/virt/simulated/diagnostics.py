"""Diagnostics of a simulated guest: as of one that has been nearly idle since it was started."""

from __future__ import annotations

from datetime import datetime

from cell_service.model.diagnostics import CpuUse, DiskUse, GuestDiagnostics, NicUse
from cell_service.model.lifecycle import PowerState
from compute_host.virt.simulated.state import Record

_STATES = {
    PowerState.NOSTATE: "pending",
    PowerState.RUNNING: "running",
    PowerState.PAUSED: "paused",
    PowerState.SHUTDOWN: "shutdown",
    PowerState.CRASHED: "crashed",
    PowerState.SUSPENDED: "suspended",
}
_BUSY_SHARE = 0.01
_QUIET = (0,) * 10


def of(guest: Record, now: datetime) -> GuestDiagnostics:
    """The guest's diagnostics as of `now`."""
    running = guest.power_state is PowerState.RUNNING and guest.boots
    uptime = int((now - guest.boots[-1].at).total_seconds()) if running else 0
    busy = int(uptime * _BUSY_SHARE * 1e9)
    return GuestDiagnostics(
        state=_STATES[guest.power_state],
        driver="libvirt",  # the API has a closed list of names
        hypervisor="simulated",
        uptime=uptime,
        config_drive=guest.config_drive,
        memory_maximum=guest.memory_mib,
        memory_used=guest.memory_mib // 4,
        cpus=tuple(CpuUse(number, busy, int(_BUSY_SHARE * 100)) for number in range(guest.vcpus)),
        nics=tuple(NicUse(mac, f"vnet{number}", *_QUIET) for number, mac in enumerate(guest.macs)),
        disks=(DiskUse("vda", 0, 0, 0, 0, 0),),
    )
