"""The OpenStack tree: /openstack/<version>/<document>. Pure."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from typing import Any

from cell_service.metadata.content import Content
from cell_service.metadata.networks import network_data
from cell_service.metadata.password import password_of
from cell_service.model.block_device import volumes
from cell_service.model.instance import Instance

FOLSOM, GRIZZLY, HAVANA = "2012-08-10", "2013-04-04", "2013-10-17"
LIBERTY, NEWTON_ONE, NEWTON_TWO = "2015-10-15", "2016-06-30", "2016-10-06"
OCATA, ROCKY, VICTORIA, EPOXY = "2017-02-22", "2018-08-27", "2020-10-14", "2025-04-04"
VERSIONS = (FOLSOM, GRIZZLY, HAVANA, LIBERTY, NEWTON_ONE, NEWTON_TWO, OCATA, ROCKY, VICTORIA, EPOXY)
LATEST = "latest"

META_DATA, USER_DATA, PASSWORD = "meta_data.json", "user_data", "password"
VENDOR_DATA, VENDOR_DATA_2, NETWORK_DATA = "vendor_data.json", "vendor_data2.json", "network_data.json"


def dated(version: str) -> str | None:
    """The dated version that is meant; None when there is no such version."""
    if version == LATEST:
        return VERSIONS[-1]
    return version if version in VERSIONS else None


def listing(content: Content, version: str) -> list[str]:
    """The names of the documents that a (dated) version has for this server."""
    names = [name for name, (since, _) in _DOCUMENTS.items() if version >= since]
    return [name for name in names if name != USER_DATA or content.instance.user_data]


def document(content: Content, version: str, name: str) -> bytes | None:
    """The document of a (dated) version; None when there is no such document."""
    if name not in listing(content, version):
        return None
    return _DOCUMENTS[name][1](content, version)


def user_data_of(instance: Instance) -> bytes:
    """The user data, byte for byte as the user gave it."""
    text = instance.user_data or ""
    try:
        return base64.b64decode(text)
    except (binascii.Error, ValueError):
        return text.encode()


def content_files(content: Content) -> dict[str, bytes]:
    """Files that the user wants in the guest, by their names under openstack/content."""
    return {f"{number:04d}": base64.b64decode(file.contents) for number, file in enumerate(content.injected_files)}


def _meta_data(content: Content, version: str) -> bytes:
    instance = content.instance
    made: dict[str, Any] = {
        "uuid": instance.uuid,
        "name": instance.display_name,
        "hostname": content.hostname,
        "launch_index": instance.launch_index,
        "availability_zone": instance.availability_zone,
    }
    if instance.metadata:
        made["meta"] = dict(instance.metadata)
    if instance.key_name and instance.key_data:
        made["public_keys"] = {instance.key_name: instance.key_data}
        made["keys"] = [{"name": instance.key_name, "type": key_type(instance.key_data), "data": instance.key_data}]
    if content.injected_files:
        made["files"] = [
            {"content_path": f"/content/{number:04d}", "path": file.path}
            for number, file in enumerate(content.injected_files)
        ]
    if version >= GRIZZLY:
        made["random_seed"] = base64.b64encode(content.random_seed).decode()
    if version >= LIBERTY:
        made["project_id"] = instance.project_id
    if version >= NEWTON_ONE:
        made["devices"] = _devices(content)
    if version >= VICTORIA:
        made["dedicated_cpus"] = []
    if content.admin_password:
        made["admin_pass"] = content.admin_password
    return _json(made)


def key_type(data: str) -> str:
    """The type of the user's key: ssh or x509."""
    return "x509" if data.lstrip().startswith("-----BEGIN CERTIFICATE") else "ssh"


def _devices(content: Content) -> list[dict[str, Any]]:
    """The devices that the user has tagged. Where on a bus they are is not known outside the hypervisor; a volume's
    serial number is its id."""
    cards = [
        {"type": "nic", "bus": "none", "address": "none", "mac": vif.mac, "tags": [vif.tag]}
        for vif in content.vifs
        if vif.tag
    ]
    disks = [
        {"type": "disk", "bus": "none", "address": "none", "serial": device.volume_id, "tags": [device.tag]}
        for device in volumes(content.instance.block_devices)
        if device.tag and device.volume_id
    ]
    return cards + disks


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


_DOCUMENTS: dict[str, tuple[str, Callable[[Content, str], bytes]]] = {
    META_DATA: (FOLSOM, _meta_data),
    USER_DATA: (FOLSOM, lambda content, version: user_data_of(content.instance)),
    PASSWORD: (GRIZZLY, lambda content, version: password_of(content.instance).encode()),
    VENDOR_DATA: (HAVANA, lambda content, version: _json(content.vendor.static)),
    NETWORK_DATA: (LIBERTY, lambda content, version: _json(network_data(content.vifs))),
    VENDOR_DATA_2: (
        NEWTON_TWO,
        lambda content, version: _json({"static": content.vendor.static, **content.vendor.dynamic}),
    ),
}
"""Document → first version that has it, and how it is made."""
