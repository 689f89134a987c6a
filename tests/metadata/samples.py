"""A server with everything that documents can tell."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from cell_service.metadata.content import Content, Vendor
from cell_service.model.instance import FixedIp, Flavor, InjectedFile, Instance, Vif
from cell_service.model.lifecycle import PowerState, VmState

ODD_BYTES = bytes(range(256)) * 128 + b"\0\xff\xfe" + b"#!/bin/sh\n"
KEY = "ssh-rsa AAAAB3Nza me@here"
SEED = bytes(range(256)) * 2

FIRST_SUBNET = {
    "id": "subnet-1", "cidr": "10.1.0.0/24", "gateway_ip": "10.1.0.1", "ip_version": 4,
    "dns_nameservers": ["10.1.0.2", "10.1.0.3"], "host_routes": [], "enable_dhcp": True,
}  # fmt: skip
FIXED_SUBNET = {
    "id": "subnet-2", "cidr": "192.168.8.0/22", "gateway_ip": "192.168.8.1", "ip_version": 4,
    "dns_nameservers": ["10.1.0.3"], "enable_dhcp": False,
    "host_routes": [{"destination": "172.16.0.0/12", "nexthop": "192.168.8.9"}],
}  # fmt: skip
SLAAC_SUBNET = {
    "id": "subnet-3", "cidr": "2001:db8:1::/64", "gateway_ip": "2001:db8:1::1", "ip_version": 6,
    "dns_nameservers": ["2001:db8::53"], "host_routes": [], "enable_dhcp": True, "ipv6_address_mode": "slaac",
}  # fmt: skip
FIXED6_SUBNET = {
    "id": "subnet-4", "cidr": "2001:db8:2::/64", "gateway_ip": "2001:db8:2::1", "ip_version": 6,
    "dns_nameservers": [], "host_routes": [], "enable_dhcp": False, "ipv6_address_mode": None,
}  # fmt: skip

VIFS = (
    Vif(
        port_id="11111111-2222-4333-8444-555555555555", network_id="net-1", network_name="one",
        mac="fa:16:3e:00:00:01", mtu=1450, vif_type="bridge", tag="front",
        fixed_ips=(FixedIp("10.1.0.5", 4, "subnet-1", ("203.0.113.7",)), FixedIp("2001:db8:1::5", 6, "subnet-3")),
        details={"subnets": [FIRST_SUBNET, SLAAC_SUBNET]},
    ),
    Vif(
        port_id="66666666-7777-4888-8999-aaaaaaaaaaaa", network_id="net-2", network_name="two",
        mac="fa:16:3e:00:00:02", vif_type="binding_of_ours",
        fixed_ips=(FixedIp("192.168.9.5", 4, "subnet-2"), FixedIp("2001:db8:2::5", 6, "subnet-4")),
        details={"subnets": [FIXED_SUBNET, FIXED6_SUBNET]},
    ),
)  # fmt: skip


def instance(**fields: Any) -> Instance:
    made = Instance(
        uuid="0a1b2c3d-4e5f-4a6b-8c7d-8e9f0a1b2c3d",
        project_id="project-1",
        user_id="user-1",
        display_name="Web One",
        flavor=Flavor("1", "m1.tiny", 1, 64, 1, ephemeral_gib=1, swap_mib=64),
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        hostname="web-one",
        image_ref="aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee",
        kernel_id="bbbbbbbb-bbbb-4ccc-8ddd-eeeeeeeeeeee",
        key_name="mykey",
        key_data=KEY,
        user_data=base64.b64encode(ODD_BYTES).decode(),
        availability_zone="nova",
        reservation_id="r-12345678",
        launch_index=3,
        metadata={"role": "web", "é": "ü"},
        security_groups=("default", "web"),
        network_info=VIFS,
        root_device_name="/dev/vda",
        vm_state=VmState.ACTIVE,
        task_state=None,
        power_state=PowerState.RUNNING,
        host="host1",
    )
    return replace(made, **fields)


def content(**fields: Any) -> Content:
    made = Content(
        instance(),
        VIFS,
        SEED,
        "novalocal",
        vendor=Vendor({"static-key": 1}, {"target": {"answer": 42}}),
    )
    return replace(made, **fields)


FILES = (InjectedFile("/etc/motd", base64.b64encode(b"hello\0\xff").decode()),)
