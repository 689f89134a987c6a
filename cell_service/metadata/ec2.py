"""The EC2 tree: /<version>/meta-data/…. Pure.

Ids are made from uuids, never from a cell's own numbers: they stay the same when the server moves, and no two
cells make the same one.
"""

from __future__ import annotations

from typing import Any

from cell_service.metadata.content import Content
from cell_service.metadata.documents import LATEST, user_data_of

VERSIONS = (
    "1.0", "2007-01-19", "2007-03-01", "2007-08-29", "2007-10-10", "2007-12-15", "2008-02-01", "2008-09-01",
    "2009-04-04",
)  # fmt: skip
_ID_DIGITS = 17
_NAME = "_name"
"""Key of a directory's own line in the list that it is in."""


def dated(version: str) -> str | None:
    """The dated version that is meant; None when there is no such version."""
    if version == LATEST:
        return VERSIONS[-1]
    return version if version in VERSIONS else None


def ec2_id(kind: str, uuid: str) -> str:
    """The EC2 form of one of our ids: `i-…`, `ami-…`, `aki-…`, `ari-…`."""
    return f"{kind}-{uuid.replace('-', '')[:_ID_DIGITS]}"


def look_up(content: Content, version: str, path: list[str]) -> bytes | None:
    """The content at the path in a (dated) version; for a directory the list of its children; None when there is
    nothing."""
    tree: dict[str, Any] = {"meta-data": meta_data(content, version)}
    if content.instance.user_data:
        tree["user-data"] = user_data_of(content.instance)
    found: Any = tree
    for step in path:
        if not isinstance(found, dict) or step == _NAME or step not in found:
            return None
        found = found[step]
    return _rendered(found)


def meta_data(content: Content, version: str) -> dict[str, Any]:
    """The whole of meta-data as one tree."""
    instance = content.instance
    fixed = [one for vif in content.vifs for one in vif.fixed_ips]
    floating = [address for one in fixed for address in one.floating_ips]
    made: dict[str, Any] = {
        "ami-id": ec2_id("ami", instance.image_ref),
        "ami-launch-index": instance.launch_index,
        "ami-manifest-path": "FIXME",
        "hostname": content.hostname,
        "instance-id": ec2_id("i", instance.uuid),
        "local-ipv4": next((one.address for one in fixed if one.version == 4), ""),
        "reservation-id": instance.reservation_id,
        "security-groups": list(instance.guarding_groups),
    }
    if instance.key_name and instance.key_data:
        made["public-keys"] = {"0": {_NAME: f"0={instance.key_name}", "openssh-key": instance.key_data}}
    if _since(version, "2007-01-19"):
        made |= {"local-hostname": content.hostname, "public-hostname": content.hostname}
        made["public-ipv4"] = floating[0] if floating else ""
    if _since(version, "2007-08-29"):
        made["instance-type"] = instance.flavor.name
    if _since(version, "2007-12-15"):
        made |= {"block-device-mapping": _devices(content), "instance-action": "none"}
        if instance.kernel_id:
            made["kernel-id"] = ec2_id("aki", instance.kernel_id)
        if instance.ramdisk_id:
            made["ramdisk-id"] = ec2_id("ari", instance.ramdisk_id)
    if _since(version, "2008-02-01"):
        made["placement"] = {"availability-zone": instance.availability_zone or ""}
    return made


def _since(version: str, first: str) -> bool:
    return VERSIONS.index(version) >= VERSIONS.index(first)


def _devices(content: Content) -> dict[str, str]:
    """Disks by what they are for; after the root disk come the ephemeral and the swap disk."""
    flavor, root = content.instance.flavor, content.instance.root_device_name or "/dev/vda"
    made = {"ami": root.removeprefix("/dev/"), "root": root}
    following = [f"{root[:-1]}{letter}" for letter in "bc"]
    if flavor.ephemeral_gib:
        made["ephemeral0"] = following.pop(0)
    if flavor.swap_mib:
        made["swap"] = following.pop(0)
    return made


def _rendered(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, dict):
        return "\n".join(_line(key, value[key]) for key in sorted(value) if key != _NAME).encode()
    return ("\n".join(value) if isinstance(value, list) else str(value)).encode()


def _line(key: str, value: object) -> str:
    if not isinstance(value, dict):
        return key
    return str(value.get(_NAME, f"{key}/"))
