"""The body of POST /servers: parsed, defaults filled in, nothing looked up."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from api_cell.compute import behaviours
from api_cell.edge.route import Version
from api_cell.servers.create.server_request import ServerRequest, new_password
from api_cell.servers.devices import device_path, parse_devices
from api_cell.servers.ipv6 import canonical
from api_cell.servers.lists.query import boolean
from cell_service.errors import Invalid
from cell_service.model.instance import InjectedFile, NetworkRequest


def group_names(server: dict[str, Any]) -> list[str]:
    """The names of the requested security groups. One without a name is ignored, as published."""
    return list(dict.fromkeys(group["name"] for group in server.get("security_groups", ()) if "name" in group))


def parse_server_request(body: dict[str, Any], version: Version) -> ServerRequest:
    """Parse the body, which fits its schema. Raises Invalid."""
    server: dict[str, Any] = body["server"]
    lowest, highest = _counts(server)
    zone, host, node = _zone(server.get("availability_zone"))
    networks, auto = _networks(server.get("networks"))
    hints = body.get("os:scheduler_hints") or body.get("OS-SCH-HNT:scheduler_hints") or {}
    described = behaviours.SERVERS_HAVE_A_DESCRIPTION.at(version)
    return ServerRequest(
        name=server["name"],
        flavor_id=str(server["flavorRef"]).rsplit("/", 1)[-1],
        storage=parse_devices(server),
        networks=networks,
        auto_networks=auto,
        min_count=lowest,
        max_count=highest,
        admin_password=server.get("adminPass") or new_password(),
        security_groups=tuple(group_names(server)),
        metadata=server.get("metadata") or {},
        files=tuple(parse_file(each) for each in server.get("personality", [])),
        tags=tuple(dict.fromkeys(server.get("tags") or ())),
        key_name=server.get("key_name"),
        user_data=server.get("user_data"),
        config_drive=_flag(server.get("config_drive", False), "config_drive"),
        zone=zone,
        forced_host=host,
        forced_node=node,
        requested_host=server.get("host"),
        requested_node=server.get("hypervisor_hostname"),
        hostname=server.get("hostname"),
        description=server.get("description") if described else server["name"],
        auto_disk_config=server.get("OS-DCF:diskConfig") == "AUTO",
        access_ip_v4=server.get("accessIPv4"),
        access_ip_v6=canonical(server["accessIPv6"]) if "accessIPv6" in server else None,
        hints=hints,
        certificates=tuple(server.get("trusted_image_certificates") or ()),
        wants_reservation_id=_flag(server.get("return_reservation_id", False), "return_reservation_id"),
        named_devices=_named_devices(server),
        multiattach=behaviours.VOLUMES_FOR_SEVERAL_SERVERS.at(version),
    )


def _named_devices(server: dict[str, Any]) -> frozenset[str]:
    given = [*(server.get("block_device_mapping") or ()), *(server.get("block_device_mapping_v2") or ())]
    return frozenset(path for each in given if (path := device_path(each.get("device_name"))) is not None)


def _flag(value: bool | str, name: str) -> bool:
    return value if isinstance(value, bool) else boolean(value, name)


def _counts(server: dict[str, Any]) -> tuple[int, int]:
    lowest = int(server.get("min_count", 1))
    highest = int(server.get("max_count", lowest))
    if lowest > highest:
        raise Invalid(reason="min_count must be <= max_count")
    return lowest, highest


def _zone(text: str | None) -> tuple[str | None, str | None, str | None]:
    """`zone`, `zone:host`, `zone:host:node` or `zone::node`."""
    if text is None:
        return None, None, None
    parts = text.split(":")
    if len(parts) > 3:
        raise Invalid(reason="Invalid availability_zone: it has more than two colons")
    zone, host, node = (*parts, *([""] * (3 - len(parts))))
    return zone or None, host or None, node or None


def _networks(wanted: list[dict[str, Any]] | str | None) -> tuple[tuple[NetworkRequest, ...] | None, bool]:
    if wanted == "none":
        return (), False
    if wanted == "auto":
        return None, True
    if not wanted:
        return None, False
    made = []
    for each in wanted:
        assert isinstance(each, dict)
        if each.get("port") and each.get("fixed_ip"):
            raise Invalid(reason=f"Specified Fixed IP '{each['fixed_ip']}' cannot be used with port '{each['port']}'")
        if not each.get("port") and not each.get("uuid"):
            raise Invalid(reason="Bad network format: missing 'uuid'")
        made.append(
            NetworkRequest(
                network_id=None if each.get("port") else each.get("uuid"),
                port_id=each.get("port"),
                fixed_ip=each.get("fixed_ip"),
                tag=each.get("tag"),
            )
        )
    ports = [each.port_id for each in made if each.port_id]
    if len(set(ports)) != len(ports):
        raise Invalid(reason="Duplicate ports in the request")
    tags = [each.tag for each in made if each.tag]
    if len(set(tags)) != len(tags):
        raise Invalid(reason="Duplicate tags found for devices")
    return tuple(made), False


def parse_file(given: dict[str, str]) -> InjectedFile:
    """Raises Invalid."""
    try:
        base64.b64decode(given.get("contents", ""), validate=False)
    except (binascii.Error, ValueError):
        raise Invalid(reason=f"Personality content for {given.get('path')} cannot be decoded") from None
    if not given.get("path"):
        raise Invalid(reason="Bad personality format: missing path")
    return InjectedFile(given["path"], given.get("contents", ""))
