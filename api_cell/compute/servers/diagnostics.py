"""GET /servers/{id}/diagnostics: how a guest is doing, as its host reports it."""

from __future__ import annotations

from typing import Any

from api_cell.edge.route import Request, Response
from api_cell.edge.versioned import value_at
from api_cell.servers import find
from cell_service.errors import InstanceInvalidState, InstanceNotReady, NoConsumer, Unavailable
from cell_service.model.diagnostics import GuestDiagnostics
from cell_service.model.lifecycle import PowerState

KIB_IN_MIB = 1024


def show(req: Request) -> Response:
    """200: from 2.48 the same structure for every hypervisor, before it libvirt's words."""
    found = find.server(req.cloud, req.ctx, req.params["server_id"])
    instance = found.instance
    req.demand("os_compute_api:os-server-diagnostics", find.target(instance))
    if found.cell is None or instance.host is None:
        raise InstanceNotReady(instance_uuid=instance.uuid)
    if instance.power_state is not PowerState.RUNNING:
        raise InstanceInvalidState(
            action="get_diagnostics",
            instance_uuid=instance.uuid,
            attribute="power state",
            state=instance.power_state.name.lower(),
        )
    try:
        now = found.cell.compute(instance.host).get_diagnostics(req.ctx, instance.uuid)
    except NoConsumer:
        raise Unavailable(reason=f"Host of instance {instance.uuid} does not answer.") from None
    return Response(200, value_at(_DOCUMENTS, req.version)(now))


def structured(now: GuestDiagnostics) -> dict[str, Any]:
    """The document of 2.48."""
    return {
        "state": now.state,
        "driver": now.driver,
        "hypervisor": now.hypervisor,
        "hypervisor_os": now.hypervisor_os,
        "uptime": now.uptime,
        "config_drive": now.config_drive,
        "num_cpus": len(now.cpus),
        "num_nics": len(now.nics),
        "num_disks": len(now.disks),
        "memory_details": {"maximum": now.memory_maximum, "used": now.memory_used},
        "cpu_details": [{"id": cpu.id, "time": cpu.time, "utilisation": cpu.utilisation} for cpu in now.cpus],
        "nic_details": [
            {
                "mac_address": nic.mac,
                **{
                    f"{way}_{what}": getattr(nic, f"{way}_{what}")
                    for way in ("rx", "tx")
                    for what in ("octets", "errors", "drop", "packets", "rate")
                },
            }
            for nic in now.nics
        ],
        "disk_details": [
            {
                "read_bytes": disk.read_bytes,
                "read_requests": disk.read_requests,
                "write_bytes": disk.write_bytes,
                "write_requests": disk.write_requests,
                "errors_count": disk.errors_count,
            }
            for disk in now.disks
        ],
    }


def flat(now: GuestDiagnostics) -> dict[str, Any]:
    """The document before 2.48: one level of keys, named by device; memory in KiB."""
    made: dict[str, Any] = {f"cpu{cpu.id}_time": cpu.time for cpu in now.cpus}
    for number, disk in enumerate(now.disks):
        device = disk.device or f"disk{number}"
        made |= {
            f"{device}_errors": disk.errors_count if disk.errors_count is not None else -1,
            f"{device}_read": disk.read_bytes,
            f"{device}_read_req": disk.read_requests,
            f"{device}_write": disk.write_bytes,
            f"{device}_write_req": disk.write_requests,
        }
    for number, nic in enumerate(now.nics):
        device = nic.device or f"vnet{number}"
        made |= {
            f"{device}_{way}{suffix}": getattr(nic, f"{way}_{what}")
            for way in ("rx", "tx")
            for what, suffix in (("octets", ""), ("drop", "_drop"), ("errors", "_errors"), ("packets", "_packets"))
        }
    made["memory"] = _kib(now.memory_maximum)
    made["memory-actual"] = _kib(now.memory_maximum)
    made["memory-rss"] = _kib(now.memory_used)
    return made


_DOCUMENTS = (((2, 1), flat), ((2, 48), structured))


def _kib(mebibytes: int | None) -> int | None:
    return None if mebibytes is None else mebibytes * KIB_IN_MIB
