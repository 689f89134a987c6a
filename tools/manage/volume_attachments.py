"""`volume_attachment`: what a cell knows of a server's volume, and how a host is known to the block storage service."""

from __future__ import annotations

from typing import Any

from cell_service.config import load
from cell_service.context import Deadline
from cell_service.db import instances
from cell_service.errors import InstanceNotFound
from cell_service.model.block_device import of_volume
from compute_host.config import for_host, settings_from
from compute_host.virt.libvirt.brick import VOLUMES, Brick
from mapping_db.cloud import Cloud
from tools.manage.cloud import COMMAND_SECONDS, cell_of_instance
from tools.manage.command import Args, arg, command
from tools.manage.out import Out

_SECRET = ("password", "passphrase")
_SHOWN = (
    "uuid", "volume_id", "attachment_id", "device_name", "volume_size", "boot_index", "disk_bus", "device_type", "tag",
    "delete_on_termination",
)  # fmt: skip


@command("volume_attachment show", arg("instance_uuid", metavar="UUID", help="of the instance"),
         arg("volume_id", metavar="VOLUME", help="id of the volume"),
         arg("--connection_info", flag=True, help="only how its host reaches the volume"), reads=True)  # fmt: skip
def show(cloud: Cloud, args: Args, out: Out) -> int:
    """Show what is recorded of an instance's volume; passwords are left out. 0 shown; 2 no such instance; 3 it does not
    have the volume."""
    cell = cell_of_instance(cloud, args.instance_uuid)
    try:
        if cell is None:
            raise InstanceNotFound(instance_id=args.instance_uuid)
        with cell.db.connect(Deadline.after(COMMAND_SECONDS, cloud.clock)) as tx:
            instance = instances.get(tx, args.instance_uuid)
    except InstanceNotFound as error:
        out.warn(str(error))
        return 2
    device = of_volume(instance.block_devices, args.volume_id)
    if device is None:
        out.warn(f"Instance {args.instance_uuid} does not have volume {args.volume_id}.")
        return 3
    if args.connection_info:
        _print(out, device.connection_info)
    else:
        shown = {name: getattr(device, name) for name in _SHOWN}
        _print(out, {"instance_uuid": instance.uuid, "host": instance.host, **shown})
    return 0


@command("volume_attachment get_connector",
         arg("--host", metavar="HOST", help="of several hosts with these files; else [DEFAULT] host"), local=True,
         reads=True)  # fmt: skip
def get_connector(_cloud: Cloud | None, args: Args, out: Out) -> int:
    """Show by which properties the block storage service knows this compute host: run it there, with the files of its
    agent. 0 shown; 1 its driver connects no volumes."""
    settings = settings_from(load(list(args.settings.files)))
    if args.host:
        settings = for_host(settings, args.host)
    if "libvirt" not in settings.compute_driver:
        out.warn(f"Hosts with the driver {settings.compute_driver} connect no volumes.")
        return 1
    known = Brick(settings.libvirt, settings.state / VOLUMES).properties(settings.host, settings.my_ip)
    _print(out, {**known, "host": settings.host})
    return 0


def _print(out: Out, fields: dict[str, Any]) -> None:
    shown = without_secrets(fields)
    out.value("\n".join(f"{name}: {'' if value is None else value}" for name, value in shown.items()), **shown)


def without_secrets(found: dict[str, Any]) -> dict[str, Any]:
    """The values, also within others, but passwords are stars."""
    return {
        name: without_secrets(value)
        if isinstance(value, dict)
        else "***"
        if value and any(word in name for word in _SECRET)
        else value
        for name, value in found.items()
    }
