"""The port of a network's DHCP server: among the records, so that no other port gets its address."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from tools.companions.network import addresses, store
from tools.companions.network.ports import DHCP_PORT, PORT_ATTRS, give_mac


def ensure_dhcp_port(tx: Connection, network_id: str) -> None:
    """Give the network's DHCP server an address on every subnet that it serves.

    Raises Conflict when a subnet has none left, Invalid.
    """
    network = store.find(tx, "network", network_id)
    served = [one for one in store.search(tx, "subnet", network_id=[network_id]) if one["enable_dhcp"]]
    if network is None or not served:
        return
    port = next((one for one in store.search(tx, "port", network_id=[network_id]) if one["device_owner"] == DHCP_PORT),
                None)  # fmt: skip
    if port is None:
        port = _add(tx, network)
    has = {entry["subnet_id"] for entry in store.fixed_ips_of(tx, [port["id"]]).get(port["id"], [])}
    for subnet in served:
        if subnet["id"] not in has:
            addresses.give(tx, port, served, [{"subnet_id": subnet["id"]}])


def _add(tx: Connection, network: dict[str, Any]) -> dict[str, Any]:
    port = {name: attr.default for name, attr in PORT_ATTRS.items()} | {
        "id": store.new_id(),
        "project_id": network["project_id"],
        "tags": [],
        "network_id": network["id"],
        "device_id": f"dhcp-{network['id']}",
        "device_owner": DHCP_PORT,
        "security_groups": [],
        "port_security_enabled": False,
        "status": "ACTIVE",
    }
    port.pop("fixed_ips")
    give_mac(tx, port)
    store.add(tx, "port", port)
    found = store.find(tx, "port", port["id"])
    assert found is not None
    return found
