"""Examples of answers of main operations at the newest microversion, for readers of the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api_cell.compute.examples import IMAGE, KEY, NETWORK, SERVER, SHARE, VOLUME

_API = "https://compute.example"
_PROJECT = "2a7c5b1e90d84f3c"
_WHEN = "2026-03-01T08:15:30"


def _links(path: str) -> list[dict[str, str]]:
    return [{"rel": "self", "href": f"{_API}/v2.1/{path}"}, {"rel": "bookmark", "href": f"{_API}/{path}"}]


_FLAVOR: dict[str, Any] = {
    "id": "1", "name": "m1.small", "description": None, "ram": 2048, "disk": 20, "swap": 0,
    "OS-FLV-EXT-DATA:ephemeral": 0, "vcpus": 1, "os-flavor-access:is_public": True, "links": _links("flavors/1"),
    "extra_specs": {},
}  # fmt: skip
_ADDRESS: dict[str, Any] = {
    "version": 4, "addr": "192.0.2.14", "OS-EXT-IPS:type": "fixed", "OS-EXT-IPS-MAC:mac_addr": "fa:16:3e:0a:0b:0c"
}  # fmt: skip
_LISTED: dict[str, Any] = {
    "id": SERVER, "name": "web-1", "status": "ACTIVE", "tenant_id": _PROJECT, "user_id": "ann",
    "metadata": {"role": "web"}, "hostId": "9c1185a5c5e9fc54612808977ee8f548b2258d31",
    "image": {"id": IMAGE, "links": [{"rel": "bookmark", "href": f"{_API}/images/{IMAGE}"}], "properties": {}},
    "flavor": {"vcpus": 1, "ram": 2048, "disk": 20, "ephemeral": 0, "swap": 0, "original_name": "m1.small",
               "extra_specs": {}},
    "created": f"{_WHEN}Z", "updated": f"{_WHEN}Z", "addresses": {"inner": [_ADDRESS]}, "accessIPv4": "",
    "accessIPv6": "", "links": _links(f"servers/{SERVER}"), "OS-DCF:diskConfig": "MANUAL",
    "OS-EXT-AZ:availability_zone": "east", "config_drive": "", "key_name": "laptop",
    "OS-SRV-USG:launched_at": f"{_WHEN}.000000", "OS-SRV-USG:terminated_at": None, "OS-EXT-STS:task_state": None,
    "OS-EXT-STS:vm_state": "active", "OS-EXT-STS:power_state": 1, "os-extended-volumes:volumes_attached": [],
    "security_groups": [{"name": "default"}], "progress": 0, "locked": False, "description": None,
    "tags": ["production"], "trusted_image_certificates": None, "locked_reason": None,
    "OS-EXT-SRV-ATTR:hostname": "web-1", "pinned_availability_zone": None, "scheduler_hints": {},
    "OS-EXT-SRV-ATTR:host": "host1", "OS-EXT-SRV-ATTR:hypervisor_hostname": "host1",
    "OS-EXT-SRV-ATTR:instance_name": "instance-00000001", "OS-EXT-SRV-ATTR:reservation_id": "r-4k7w2m9p",
    "OS-EXT-SRV-ATTR:launch_index": 0, "OS-EXT-SRV-ATTR:kernel_id": "", "OS-EXT-SRV-ATTR:ramdisk_id": "",
    "OS-EXT-SRV-ATTR:root_device_name": "/dev/vda", "OS-EXT-SRV-ATTR:user_data": None, "host_status": "UP",
}  # fmt: skip
_SERVICE: dict[str, Any] = {
    "id": VOLUME, "binary": "nova-compute", "host": "host1", "status": "enabled", "updated_at": f"{_WHEN}.000000",
    "disabled_reason": None, "forced_down": False, "zone": "east", "state": "up",
}  # fmt: skip
_ACTION: dict[str, Any] = {
    "action": "create", "instance_uuid": SERVER, "request_id": f"req-{SHARE}", "user_id": "ann",
    "project_id": _PROJECT, "start_time": f"{_WHEN}.000000", "message": None, "updated_at": f"{_WHEN}.000000",
}  # fmt: skip
_INTERFACE: dict[str, Any] = {
    "net_id": NETWORK, "port_id": VOLUME, "mac_addr": "fa:16:3e:0a:0b:0c", "port_state": "ACTIVE",
    "fixed_ips": [{"subnet_id": SHARE, "ip_address": "192.0.2.14"}], "tag": None,
}  # fmt: skip
_ABSOLUTE: dict[str, Any] = {
    "maxServerMeta": 128, "maxServerGroups": 10, "maxServerGroupMembers": 10, "maxTotalCores": 20,
    "maxTotalInstances": 10, "maxTotalKeypairs": 100, "maxTotalRAMSize": 51200, "totalCoresUsed": 1,
    "totalInstancesUsed": 1, "totalRAMUsed": 2048, "totalServerGroupsUsed": 0,
}  # fmt: skip

ANSWERS: Mapping[tuple[str, str], Any] = {
    ("POST", "/servers"): {
        "server": {
            "id": SERVER, "links": _links(f"servers/{SERVER}"), "OS-DCF:diskConfig": "MANUAL",
            "security_groups": [{"name": "default"}], "adminPass": "bdNa4lU02VxX",
        }
    },
    ("GET", "/servers"): {"servers": [{"id": SERVER, "name": "web-1", "links": _links(f"servers/{SERVER}")}]},
    ("GET", "/servers/detail"): {"servers": [_LISTED]},
    ("GET", "/servers/{id}"): {"server": {**_LISTED, "server_groups": []}},
    ("GET", "/servers/{server_id}/os-instance-actions"): {"instanceActions": [_ACTION]},
    ("GET", "/servers/{server_id}/os-interface"): {"interfaceAttachments": [_INTERFACE]},
    ("POST", "/servers/{server_id}/remote-consoles"): {
        "remote_console": {"protocol": "serial", "type": "serial", "url": f"wss://console.example/?token={SHARE}"}
    },
    ("GET", "/flavors"): {
        "flavors": [{"id": "1", "name": "m1.small", "description": None, "links": _links("flavors/1")}]
    },
    ("GET", "/flavors/detail"): {"flavors": [_FLAVOR]},
    ("GET", "/flavors/{id}"): {"flavor": _FLAVOR},
    ("POST", "/os-keypairs"): {
        "keypair": {
            "name": "laptop", "public_key": KEY, "fingerprint": "56:b6:3f:58:9e:f4:48:f3:a0:96:ff:d5:83:7d:6a:59",
            "type": "ssh", "user_id": "ann",
        }
    },
    ("GET", "/os-availability-zone"): {
        "availabilityZoneInfo": [{"zoneName": "east", "zoneState": {"available": True}, "hosts": None}]
    },
    ("GET", "/os-services"): {"services": [_SERVICE]},
    ("GET", "/os-hypervisors"): {
        "hypervisors": [{"id": VOLUME, "hypervisor_hostname": "host1", "state": "up", "status": "enabled"}]
    },
    ("GET", "/os-quota-sets/{id}"): {
        "quota_set": {
            "id": _PROJECT, "instances": 10, "cores": 20, "ram": 51200, "metadata_items": 128, "key_pairs": 100,
            "server_groups": 10, "server_group_members": 10,
        }
    },
    ("GET", "/limits"): {"limits": {"absolute": _ABSOLUTE, "rate": []}},
}  # fmt: skip
