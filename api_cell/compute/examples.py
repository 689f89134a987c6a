"""Bodies to start from, for people who read the OpenAPI document.

An example has the keys of all microversions; `body` leaves out those that one does not have.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api_cell.edge.route import Schema

SERVER = "7f3c2a90-5d1e-4b7a-9c64-0e8f1d2b3a45"
IMAGE = "b1946ac9-2f4d-4e0f-8a3b-6c5d7e8f9012"
NETWORK = "c8e1f5d2-94a7-4c3e-b6d0-1a2b3c4d5e6f"
VOLUME = "d41d8cd9-8f00-4b20-a980-99ecf8427e3a"
SHARE = "e3b0c442-98fc-4c14-9afb-f4c8996fb924"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGjW2DMVvlm6bKzj5LnHGBJYQCXSm8xGLBOCyOnGxJSP ann@example"
_CREATE = {
    "server": {
        "name": "web-1", "flavorRef": "1", "imageRef": IMAGE, "key_name": "laptop", "networks": [{"uuid": NETWORK}],
        "metadata": {"role": "web"}, "tags": ["production"], "description": "Serves the shop",
    }
}  # fmt: skip
_METADATA = {"metadata": {"role": "web"}}
_GROUP = {"security_group": {"name": "web", "description": "Ports 80 and 443"}}
_QUOTA = {"instances": 20, "cores": 40, "ram": 81920}

BODIES: Mapping[tuple[str, str], Any] = {
    ("POST", "/flavors"): {
        "flavor": {"name": "m1.small", "ram": 2048, "vcpus": 1, "disk": 20, "description": "For small services"}
    },
    ("PUT", "/flavors/{id}"): {"flavor": {"description": "For small services"}},
    ("POST", "/flavors/{flavor_id}/os-extra_specs"): {"extra_specs": {"hw:cpu_policy": "dedicated"}},
    ("PUT", "/flavors/{flavor_id}/os-extra_specs/{id}"): {"hw:cpu_policy": "shared"},
    ("POST", "/os-keypairs"): {"keypair": {"name": "laptop", "type": "ssh", "public_key": KEY}},
    ("PUT", "/os-quota-sets/{id}"): {"quota_set": _QUOTA},
    ("PUT", "/os-quota-class-sets/{id}"): {"quota_class_set": _QUOTA},
    ("PUT", "/os-services/{id}"): {
        "host": "host1", "binary": "nova-compute", "status": "disabled", "disabled_reason": "New memory"
    },
    ("PUT", "/os-hosts/{id}"): {"status": "disable"},
    ("POST", "/os-server-groups"): {
        "server_group": {
            "name": "spread", "policies": ["anti-affinity"], "policy": "anti-affinity",
            "rules": {"max_server_per_host": 2},
        }
    },
    ("POST", "/os-aggregates"): {"aggregate": {"name": "rack-7", "availability_zone": "east"}},
    ("PUT", "/os-aggregates/{id}"): {"aggregate": {"name": "rack-8"}},
    ("POST", "/os-aggregates/{id}/images"): {"cache": [{"id": IMAGE}]},
    ("POST", "/servers"): _CREATE,
    ("PUT", "/servers/{id}"): {"server": {"name": "web-2", "description": "Serves the new shop"}},
    ("POST", "/os-volumes_boot"): _CREATE,
    ("PUT", "/os-volumes_boot/{id}"): {"server": {"name": "web-2"}},
    ("POST", "/servers/{server_id}/remote-consoles"): {"remote_console": {"protocol": "vnc", "type": "novnc"}},
    ("POST", "/servers/{server_id}/shares"): {"share": {"share_id": SHARE, "tag": "data"}},
    ("POST", "/servers/{server_id}/metadata"): _METADATA,
    ("PUT", "/servers/{server_id}/metadata"): _METADATA,
    ("PUT", "/servers/{server_id}/metadata/{id}"): {"meta": {"role": "web"}},
    ("POST", "/images/{image_id}/metadata"): _METADATA,
    ("PUT", "/images/{image_id}/metadata"): _METADATA,
    ("PUT", "/images/{image_id}/metadata/{id}"): {"meta": {"role": "web"}},
    ("PUT", "/servers/{server_id}/tags"): {"tags": ["production", "shop"]},
    ("POST", "/servers/{server_id}/os-interface"): {"interfaceAttachment": {"net_id": NETWORK, "tag": "inner"}},
    ("POST", "/servers/{server_id}/os-volume_attachments"): {"volumeAttachment": {"volumeId": VOLUME, "tag": "data"}},
    ("PUT", "/servers/{server_id}/os-volume_attachments/{id}"): {
        "volumeAttachment": {"volumeId": VOLUME, "delete_on_termination": True}
    },
    ("POST", "/os-assisted-volume-snapshots"): {
        "snapshot": {
            "volume_id": VOLUME,
            "create_info": {"snapshot_id": SHARE, "type": "qcow2", "new_file": "volume.snapshot"},
        }
    },
    ("POST", "/os-server-external-events"): {"events": [{"name": "network-changed", "server_uuid": SERVER}]},
    ("POST", "/os-volumes"): {"volume": {"size": 10, "display_name": "data"}},
    ("POST", "/os-snapshots"): {"snapshot": {"volume_id": VOLUME, "display_name": "before-upgrade"}},
    ("POST", "/os-security-groups"): _GROUP,
    ("PUT", "/os-security-groups/{id}"): _GROUP,
    ("POST", "/os-security-group-rules"): {
        "security_group_rule": {
            "parent_group_id": SHARE, "ip_protocol": "tcp", "from_port": 443, "to_port": 443, "cidr": "192.0.2.0/24"
        }
    },
    ("POST", "/os-floating-ips"): {"pool": "public"},
}  # fmt: skip
ACTIONS: Mapping[str, Any] = {
    "addTenantAccess": {"tenant": "2a7c5b1e90d84f3c"},
    "removeTenantAccess": {"tenant": "2a7c5b1e90d84f3c"},
    "add_host": {"host": "host1"},
    "remove_host": {"host": "host1"},
    "set_metadata": {"metadata": {"ssd": "true"}},
    "reboot": {"type": "SOFT"},
    "rebuild": {"imageRef": IMAGE, "name": "web-2"},
    "unshelve": {"availability_zone": "east"},
    "resize": {"flavorRef": "2"},
    "migrate": {"host": "host2"},
    "os-migrateLive": {"host": None, "block_migration": True, "disk_over_commit": False},
    "evacuate": {"host": "host2", "onSharedStorage": False},
    "lock": {"locked_reason": "Under audit"},
    "os-resetState": {"state": "error"},
    "os-getConsoleOutput": {"length": 50},
    "rescue": {"rescue_image_ref": IMAGE},
    "createImage": {"name": "web-1-golden", "metadata": {"role": "web"}},
    "createBackup": {"name": "web-1-nightly", "backup_type": "daily", "rotation": 7},
    "changePassword": {"adminPass": "a-long-new-password"},
    "addSecurityGroup": {"name": "web"},
    "removeSecurityGroup": {"name": "web"},
    "os-getVNCConsole": {"type": "novnc"},
    "os-getSPICEConsole": {"type": "spice-html5"},
    "os-getSerialConsole": {"type": "serial"},
    "addFloatingIp": {"address": "203.0.113.7"},
    "removeFloatingIp": {"address": "203.0.113.7"},
    "addFixedIp": {"networkId": NETWORK},
    "removeFixedIp": {"address": "192.0.2.14"},
}
"""Examples of the arguments of actions, by name; those of all others are null."""


def body(method: str, path: str, action: str | None, schema: Schema) -> Any:
    """A body that fits the schema, as far as its keys are concerned; None where there is none."""
    example = BODIES.get((method, path)) if action is None else {action: ACTIONS.get(action)}
    return _fitted(example, schema)


def _fitted(value: Any, schema: Schema) -> Any:
    """The value without the keys for which the schema has no place."""
    if isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        return [_fitted(each, schema["items"]) for each in value]
    if not isinstance(value, dict):
        return value
    properties: Mapping[str, Any] = schema.get("properties", {})
    closed = schema.get("additionalProperties") is False and "patternProperties" not in schema
    return {
        key: _fitted(each, properties.get(key, {})) for key, each in value.items() if key in properties or not closed
    }
