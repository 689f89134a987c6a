"""Documents of servers, as each microversion shows them (Compute API reference, "Servers")."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache
from hashlib import sha224
from operator import attrgetter
from typing import Any

from api_cell.compute import behaviours
from api_cell.edge.links import resource_links
from api_cell.edge.route import Request
from api_cell.edge.versioned import Field, View, value_at
from api_cell.timestamps import with_fraction
from cell_service.model.block_device import BlockDevice, volumes
from cell_service.model.instance import Fault, Flavor, Instance, Vif
from cell_service.model.request_spec import RequestSpec
from cell_service.model.status import status_of

_PROGRESS = frozenset({"ACTIVE", "BUILD", "REBUILD", "RESIZE", "VERIFY_RESIZE", "MIGRATING"})
_IMAGE_PROPERTY = "image_"


def time_text(moment: datetime | None) -> str | None:
    """Whole seconds, as created and updated are shown."""
    return None if moment is None else f"{moment.isoformat()[:19]}Z"


@lru_cache(maxsize=4096)
def host_id(project_id: str, host: str | None) -> str:
    """The id of a host as a project may know it: it differs from project to project. "" for no host."""
    return "" if not host else sha224((project_id + host).encode()).hexdigest()


def links(req: Request, collection: str, identity: str) -> list[dict[str, str]]:
    """The self and bookmark links of a member of a collection."""
    return resource_links(req, f"/{collection}/{identity}")


def brief(req: Request, instance_uuid: str, name: str) -> dict[str, Any]:
    """A row of GET /servers."""
    return {"id": instance_uuid, "name": name, "links": links(req, "servers", instance_uuid)}


def unreachable_brief(req: Request, instance_uuid: str) -> dict[str, Any]:
    """A row of GET /servers for a server whose cell is down (2.69)."""
    return {"id": instance_uuid, "status": "UNKNOWN", "links": links(req, "servers", instance_uuid)}


def unreachable_row(req: Request, instance_uuid: str, project_id: str, created_at: datetime) -> dict[str, Any]:
    """A row of GET /servers/detail for a server whose cell is down (2.69)."""
    return {**unreachable_brief(req, instance_uuid), "tenant_id": project_id, "created": time_text(created_at)}


def unreachable(req: Request, spec: RequestSpec, created_at: datetime) -> dict[str, Any]:
    """GET /servers/{id} for a server whose cell is down (2.69): what the global tables know of it."""
    groups = [spec.group_uuid] if spec.group_uuid else []
    return {
        **unreachable_row(req, spec.instance_uuid, spec.project_id, created_at),
        "user_id": spec.user_id,
        "flavor": flavor_details(req, spec.flavor),
        "image": _image(req, spec.image_id),
        "OS-EXT-AZ:availability_zone": spec.availability_zone or "UNKNOWN",
        "OS-EXT-STS:power_state": 0,
        **({"server_groups": groups} if behaviours.GROUPS_ARE_SHOWN.at(req.version) else {}),
    }


def full(
    req: Request, instance: Instance, *, host_status: str | None = None, groups: Iterable[str] | None = None
) -> dict[str, Any]:
    """A server's document. `groups` None: server_groups is not shown (lists); `host_status` None: neither is that."""
    status = status_of(instance.vm_state.value, instance.task_state.value if instance.task_state else None)
    document: dict[str, Any] = {
        "id": instance.uuid,
        "name": instance.display_name,
        "status": status,
        "tenant_id": instance.project_id,
        "user_id": instance.user_id,
        "metadata": instance.metadata,
        "hostId": host_id(instance.project_id, instance.host),
        "image": _image(req, instance.image_ref),
        "flavor": value_at(_FLAVOR, req.version)(req, instance.flavor),
        "created": time_text(instance.created_at),
        "updated": time_text(instance.updated_at or instance.created_at),
        "addresses": addresses(instance.network_info, details=True),
        "accessIPv4": instance.access_ip_v4 or "",
        "accessIPv6": instance.access_ip_v6 or "",
        "links": links(req, "servers", instance.uuid),
        "OS-DCF:diskConfig": "AUTO" if instance.auto_disk_config else "MANUAL",
        "OS-EXT-AZ:availability_zone": instance.availability_zone or "",
        "config_drive": "True" if instance.config_drive else "",
        "key_name": instance.key_name,
        "OS-SRV-USG:launched_at": with_fraction(instance.launched_at),
        "OS-SRV-USG:terminated_at": with_fraction(instance.terminated_at),
        "OS-EXT-STS:task_state": instance.task_state.value if instance.task_state else None,
        "OS-EXT-STS:vm_state": instance.vm_state.value,
        "OS-EXT-STS:power_state": instance.power_state.value,
        "os-extended-volumes:volumes_attached": _volumes(req, instance),
    }
    if names := instance.guarding_groups:
        document["security_groups"] = [{"name": name} for name in names]
    if status in _PROGRESS:
        document["progress"] = instance.progress
    if instance.fault is not None and status in ("ERROR", "DELETED"):
        document["fault"] = _fault(req, instance.fault)
    _add_by_version(req, document, instance, host_status, groups)
    return document


def addresses(network_info: Iterable[Vif], *, details: bool) -> dict[str, list[dict[str, Any]]]:
    """Addresses by network name; with `details` also type and MAC."""
    found: dict[str, list[dict[str, Any]]] = {}
    for vif in network_info:
        shown = found.setdefault(vif.network_name, [])
        for fixed in vif.fixed_ips:
            every = [(fixed.address, fixed.version, "fixed"), *((each, 4, "floating") for each in fixed.floating_ips)]
            for address, version, kind in every:
                more = {"OS-EXT-IPS:type": kind, "OS-EXT-IPS-MAC:mac_addr": vif.mac} if details else {}
                shown.append({"version": version, "addr": address, **more})
    return found


def flavor_details(req: Request, flavor: Flavor) -> dict[str, Any]:
    """A flavor inside a server's document, from 2.47 on."""
    shown: dict[str, Any] = {
        "vcpus": flavor.vcpus,
        "ram": flavor.memory_mib,
        "disk": flavor.root_gib,
        "ephemeral": flavor.ephemeral_gib,
        "swap": flavor.swap_mib,
        "original_name": flavor.name,
    }
    if req.may("os_compute_api:servers:show:flavor-extra-specs"):
        shown["extra_specs"] = flavor.extra_specs
    return shown


def _volumes(req: Request, instance: Instance) -> list[dict[str, Any]]:
    return [_VOLUME.at(req.version, device) for device in volumes(instance.block_devices) if device.volume_id]


def _flavor_link(req: Request, flavor: Flavor) -> dict[str, Any]:
    return {"id": flavor.flavorid, "links": links(req, "flavors", flavor.flavorid)[1:]}


def _image(req: Request, image_id: str) -> dict[str, Any] | str:
    if not image_id:
        return ""
    return {"id": image_id, "links": links(req, "images", image_id)[1:]}


def _fault(req: Request, fault: Fault) -> dict[str, Any]:
    shown: dict[str, Any] = {"code": fault.code, "created": time_text(fault.created_at), "message": fault.message}
    if fault.details and (req.ctx.is_admin or req.may("os_compute_api:os-extended-server-attributes")):
        shown["details"] = fault.details
    return shown


def _add_by_version(
    req: Request, document: dict[str, Any], instance: Instance, host_status: str | None, groups: Iterable[str] | None
) -> None:
    document.update(_OF_ALL.at(req.version, instance))
    if req.may("os_compute_api:os-extended-server-attributes"):
        document.update(_OF_SOME.at(req.version, instance))
    if host_status is not None:
        document["host_status"] = host_status
    if groups is not None:
        document["server_groups"] = list(groups)
    if instance.image_ref and behaviours.IMAGE_PROPERTIES_ARE_SHOWN.at(req.version):
        prefix = len(_IMAGE_PROPERTY)
        kept = {
            name[prefix:]: value for name, value in instance.system_metadata.items() if name.startswith(_IMAGE_PROPERTY)
        }
        document["image"] = {**document["image"], "properties": kept}


_FLAVOR = (((2, 1), _flavor_link), ((2, 47), flavor_details))
_OF_ALL: View[Instance] = View(
    Field("locked", attrgetter("locked"), since=(2, 9)),
    Field("description", attrgetter("display_description"), since=(2, 19)),
    Field("tags", lambda instance: list(instance.tags), since=(2, 26)),
    Field(
        "trusted_image_certificates", lambda instance: list(instance.trusted_image_certificates) or None, since=(2, 63)
    ),
    Field("locked_reason", attrgetter("locked_reason"), since=(2, 73)),
    Field("OS-EXT-SRV-ATTR:hostname", attrgetter("hostname"), since=(2, 90)),
    Field("pinned_availability_zone", attrgetter("pinned_availability_zone"), since=(2, 96)),
    Field("scheduler_hints", attrgetter("scheduler_hints"), since=(2, 100)),
)
"""The fields of a server that every caller sees, with their versions."""
_OF_SOME: View[Instance] = View(
    Field("OS-EXT-SRV-ATTR:host", attrgetter("host")),
    Field("OS-EXT-SRV-ATTR:hypervisor_hostname", attrgetter("node")),
    Field("OS-EXT-SRV-ATTR:instance_name", attrgetter("name")),
    Field("OS-EXT-SRV-ATTR:reservation_id", attrgetter("reservation_id"), since=(2, 3)),
    Field("OS-EXT-SRV-ATTR:launch_index", attrgetter("launch_index"), since=(2, 3)),
    Field("OS-EXT-SRV-ATTR:hostname", attrgetter("hostname"), since=(2, 3)),
    Field("OS-EXT-SRV-ATTR:kernel_id", attrgetter("kernel_id"), since=(2, 3)),
    Field("OS-EXT-SRV-ATTR:ramdisk_id", attrgetter("ramdisk_id"), since=(2, 3)),
    Field("OS-EXT-SRV-ATTR:root_device_name", attrgetter("root_device_name"), since=(2, 3)),
    Field("OS-EXT-SRV-ATTR:user_data", attrgetter("user_data"), since=(2, 3)),
)
"""The fields for callers that may see extended attributes."""
_VOLUME: View[BlockDevice] = View(
    Field("id", attrgetter("volume_id")),
    Field("delete_on_termination", attrgetter("delete_on_termination"), since=(2, 3)),
)
