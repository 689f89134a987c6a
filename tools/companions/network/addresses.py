"""Addresses: subnets with their pools, and which address a port is given."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from cell_service.errors import Conflict
from tools.companions.network import store
from tools.companions.network.errors import bad, refusal

Record = dict[str, Any]
Net = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address
AUTOMATIC = ("slaac", "dhcpv6-stateless")
MOST_FIXED_IPS = 5


def parsed_address(text: object) -> Address:
    try:
        return ip_address(text)  # type: ignore[arg-type]
    except ValueError as error:
        raise bad(f"'{text}' is not a valid IP address.") from error


def parsed_net(text: object, version: object) -> Net:
    """Raises Invalid unless the text is a network of that version. Host bits are dropped."""
    try:
        net = ip_network(text, strict=False)  # type: ignore[arg-type]
    except (ValueError, TypeError) as error:
        raise bad(f"'{text}' is not a valid IP subnet.") from error
    if net.version != version:
        raise bad(f"Invalid input for operation: ip_version '{version}' does not match the cidr '{text}'.")
    return net


def first_address(net: Net) -> Address:
    """The usual address of a gateway."""
    return net[1] if net.num_addresses > 1 else net[0]


def usual_pools(net: Net, gateway: Address | None) -> list[dict[str, str]]:
    """All addresses of the network but its own, its broadcast's and the gateway's."""
    if net.num_addresses <= 2:
        return [{"start": str(net[0]), "end": str(net[-1])}]
    first, last = int(net[1]), int(net[-2] if net.version == 4 else net[-1])
    parts = [(first, last)]
    if gateway is not None and first <= int(gateway) <= last:
        parts = [(first, int(gateway) - 1), (int(gateway) + 1, last)]
    kind = IPv4Address if net.version == 4 else IPv6Address
    return [{"start": str(kind(one)), "end": str(kind(other))} for one, other in parts if one <= other]


def check_pools(pools: object, net: Net, gateway: Address | None) -> list[dict[str, str]]:
    """The pools as given, with their addresses in their usual form. Raises Invalid, Conflict."""
    spans: list[tuple[int, int]] = []
    checked = []
    for pool in pools if isinstance(pools, list) else [None]:
        if not isinstance(pool, dict) or not {"start", "end"} <= pool.keys():
            raise bad("Every allocation pool has a start and an end.")
        start, end = parsed_address(pool["start"]), parsed_address(pool["end"])
        if start not in net or end not in net:
            raise bad(
                f"The allocation pool {start}-{end} spans beyond the subnet cidr {net}.", "OutOfBoundsAllocationPool"
            )
        if int(start) > int(end):
            raise bad(f"The allocation pool {start}-{end} is not valid.", "InvalidAllocationPool")
        for one, other in spans:
            if int(start) <= other and one <= int(end):
                raise refusal(Conflict, "OverlappingAllocationPools", "Found overlapping allocation pools.")
        if gateway is not None and int(start) <= int(gateway) <= int(end):
            message = f"Gateway ip {gateway} conflicts with allocation pool {start}-{end}."
            raise refusal(Conflict, "GatewayConflictWithAllocationPools", message)
        spans.append((int(start), int(end)))
        checked.append({"start": str(start), "end": str(end)})
    return checked


def new_mac(prefix: str) -> str:
    return prefix + ":".join(f"{part:02x}" for part in secrets.token_bytes(6 - prefix.count(":")))


def from_mac(net: Net, mac: str) -> Address:
    """The address that a guest gives itself (modified EUI-64)."""
    parts = [int(part, 16) for part in mac.split(":")]
    parts[0] ^= 2
    return net[int.from_bytes(bytes([*parts[:3], 0xFF, 0xFE, *parts[3:]]), "big")]


def give(tx: Connection, port: Record, subnets: list[Record], requested: list[Record] | None) -> None:
    """Give the port the requested addresses; when none is requested, one of each version.

    Raises Invalid, Conflict (IpAddressInUse, IpAddressGenerationFailure).
    """
    by_id = {subnet["id"]: subnet for subnet in subnets}
    if requested is None:
        place = 0
        for version in (4, 6):
            some = [subnet for subnet in subnets if subnet["ip_version"] == version]
            plain = [subnet for subnet in some if subnet.get("ipv6_address_mode") not in AUTOMATIC]
            if plain:
                _take_any(tx, port, plain, place)
                place += 1
        requested = []
    else:
        place = 0
        if len(requested) > MOST_FIXED_IPS:
            raise bad("Exceeded maximum amount of fixed ips per port.")
    for entry in requested:
        subnet = _subnet_of(entry, by_id)
        if entry.get("ip_address") is None:
            if subnet.get("ipv6_address_mode") in AUTOMATIC:
                _take(tx, port, subnet, from_mac(ip_network(subnet["cidr"]), port["mac_address"]), place)
            else:
                _take_any(tx, port, [subnet], place)
        else:
            _take(tx, port, subnet, parsed_address(entry["ip_address"]), place)
        place += 1
    for subnet in subnets:
        if subnet.get("ipv6_address_mode") in AUTOMATIC and not requested:
            _take(tx, port, subnet, from_mac(ip_network(subnet["cidr"]), port["mac_address"]), place)
            place += 1


def _subnet_of(entry: object, by_id: dict[str, Record]) -> Record:
    if not isinstance(entry, dict) or not (entry.get("subnet_id") or entry.get("ip_address")):
        raise bad("A fixed IP has a subnet_id, an ip_address, or both.")
    subnet_id = entry.get("subnet_id")
    if subnet_id is not None:
        if subnet_id not in by_id:
            raise bad(f"Failed to create port: subnet {subnet_id} is not on its network.")
        return by_id[subnet_id]
    address = parsed_address(entry["ip_address"])
    for subnet in by_id.values():
        if address in ip_network(subnet["cidr"]):
            return subnet
    raise bad(f"IP address {address} is not a valid IP for any of the subnets on the network.", "InvalidIpForNetwork")


def _take(tx: Connection, port: Record, subnet: Record, address: Address, place: int) -> None:
    net = ip_network(subnet["cidr"])
    if address not in net or (net.version == 4 and net.num_addresses > 2 and address in (net[0], net[-1])):
        raise bad(f"IP address {address} is not a valid IP for the subnet {subnet['id']}.", "InvalidIpForSubnet")
    nested = tx.begin_nested()
    try:
        number = int(address) - int(net.network_address)
        store.take_address(tx, port, subnet["id"], str(address), number, place)
        nested.commit()
    except IntegrityError as error:
        nested.rollback()
        message = f"Unable to complete operation for network {port['network_id']}. The IP address {address} is in use."
        raise refusal(Conflict, "IpAddressInUse", message) from error


def _take_any(tx: Connection, port: Record, subnets: Iterable[Record], place: int) -> None:
    for subnet in subnets:
        net = ip_network(subnet["cidr"])
        base = int(net.network_address)
        for pool in subnet["allocation_pools"]:
            first = int(ip_address(pool["start"])) - base
            last = min(int(ip_address(pool["end"])) - base, store.LARGEST_NUMBER - 1)
            number = store.first_free(tx, subnet["id"], first, last)
            if number is not None:
                store.take_address(tx, port, subnet["id"], str(net[number]), number, place)
                return
    message = f"No more IP addresses available on network {port['network_id']}."
    raise refusal(Conflict, "IpAddressGenerationFailure", message)
