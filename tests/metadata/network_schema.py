"""The published schema of network_data.json (OpenStack, Apache-2.0), as far as our documents can break it."""

from __future__ import annotations

from typing import Any

import jsonschema

_MAC = {"type": "string", "pattern": "^(?i:([0-9A-F]{2}[:-]){5}([0-9A-F]{2}))$"}
_STRINGS = {"type": "string"}
_ADDRESS = {"anyOf": [{"type": "string", "format": "ipv4"}, {"type": "string", "format": "ipv6"}]}
_SERVICE = {
    "type": "object",
    "required": ["address", "type"],
    "properties": {"address": _ADDRESS, "type": {"enum": ["dns"]}},
}
_ROUTE = {
    "type": "object",
    "required": ["gateway", "netmask", "network"],
    "properties": {"network": _ADDRESS, "netmask": _ADDRESS, "gateway": _ADDRESS},
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["links", "networks", "services"],
    "properties": {
        "links": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["ethernet_mac_address", "id", "type"],
                "properties": {
                    "id": _STRINGS,
                    "ethernet_mac_address": _MAC,
                    "mtu": {"anyOf": [{"type": "number", "minimum": 1, "maximum": 65535}, {"type": "null"}]},
                    "type": {
                        "enum": ["bridge", "dvs", "hw_veb", "hyperv", "ovs", "tap", "vhostuser", "vif", "phy"]
                    },
                    "vif_id": _STRINGS,
                },
            },
        },
        "networks": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["id", "link", "network_id", "type"],
                "properties": {
                    "type": {"enum": ["ipv4", "ipv4_dhcp", "ipv6", "ipv6_dhcp", "ipv6_slaac"]},
                    "ip_address": _ADDRESS,
                    "netmask": _ADDRESS,
                    "routes": {"type": "array", "items": _ROUTE},
                    "services": {"type": "array", "items": _SERVICE},
                },
            },
        },
        "services": {"type": "array", "items": _SERVICE},
    },
}  # fmt: skip


def check_network_data(document: dict[str, Any]) -> None:
    """Raises ValidationError."""
    jsonschema.Draft7Validator(SCHEMA, format_checker=jsonschema.Draft7Validator.FORMAT_CHECKER).validate(document)
