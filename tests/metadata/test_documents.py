"""Documents of every version against what a guest must find, written down by hand."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from cell_service.metadata import documents, ec2
from cell_service.metadata.content import Content
from cell_service.metadata.drive import drive_files
from cell_service.metadata.networks import network_data
from cell_service.metadata.service import _reported
from cell_service.model.block_device import BlockDevice
from tests.metadata import samples
from tests.metadata.network_schema import check_network_data

EVER = {"uuid", "name", "hostname", "launch_index", "availability_zone", "meta", "public_keys", "keys"}
KEYS = {
    "2012-08-10": EVER,
    "2013-04-04": EVER | {"random_seed"},
    "2013-10-17": EVER | {"random_seed"},
    "2015-10-15": EVER | {"random_seed", "project_id"},
    "2016-06-30": EVER | {"random_seed", "project_id", "devices"},
    "2016-10-06": EVER | {"random_seed", "project_id", "devices"},
    "2017-02-22": EVER | {"random_seed", "project_id", "devices"},
    "2018-08-27": EVER | {"random_seed", "project_id", "devices"},
    "2020-10-14": EVER | {"random_seed", "project_id", "devices", "dedicated_cpus"},
    "2025-04-04": EVER | {"random_seed", "project_id", "devices", "dedicated_cpus"},
}
NAMES = {
    "2012-08-10": ["meta_data.json", "user_data"],
    "2013-04-04": ["meta_data.json", "user_data", "password"],
    "2013-10-17": ["meta_data.json", "user_data", "password", "vendor_data.json"],
    "2015-10-15": ["meta_data.json", "user_data", "password", "vendor_data.json", "network_data.json"],
}
NAMES["2016-06-30"] = NAMES["2015-10-15"]
LATER = [*NAMES["2015-10-15"], "vendor_data2.json"]
EC2_OLDEST = """ami-id
ami-launch-index
ami-manifest-path
hostname
instance-id
local-ipv4
public-keys/
reservation-id
security-groups""".splitlines()
EC2_NEWEST = """ami-id
ami-launch-index
ami-manifest-path
block-device-mapping/
hostname
instance-action
instance-id
instance-type
kernel-id
local-hostname
local-ipv4
placement/
public-hostname
public-ipv4
public-keys/
reservation-id
security-groups""".splitlines()
EC2_COUNTS = [9, 12, 12, 13, 13, 16, 17, 17, 17]


def read(path: str, content: Content | None = None) -> bytes:
    """What a guest would be told at the path."""
    return _reported(content or samples.content(), [step for step in path.split("/") if step]).body


@pytest.mark.parametrize("version", documents.VERSIONS)
def test_meta_data_has_the_keys_of_its_version(version: str) -> None:
    found = json.loads(read(f"/openstack/{version}/meta_data.json"))
    assert set(found) == KEYS[version]


def test_meta_data_tells_about_the_server() -> None:
    found = json.loads(read("/openstack/latest/meta_data.json"))
    assert found == {
        "uuid": "0a1b2c3d-4e5f-4a6b-8c7d-8e9f0a1b2c3d",
        "name": "Web One",
        "hostname": "web-one.novalocal",
        "launch_index": 3,
        "availability_zone": "nova",
        "meta": {"role": "web", "é": "ü"},
        "public_keys": {"mykey": samples.KEY},
        "keys": [{"name": "mykey", "type": "ssh", "data": samples.KEY}],
        "random_seed": base64.b64encode(samples.SEED).decode(),
        "project_id": "project-1",
        "devices": [
            {"type": "nic", "bus": "none", "address": "none", "mac": "fa:16:3e:00:00:01", "tags": ["front"]}
        ],
        "dedicated_cpus": [],
    }  # fmt: skip


def test_a_tagged_volume_is_found_by_its_serial_number() -> None:
    devices = (
        BlockDevice("one", "volume", "volume", device_name="/dev/vdb", volume_id="volume-1", tag="data"),
        BlockDevice("two", "volume", "volume", device_name="/dev/vdc", volume_id="volume-2"),
    )
    content = samples.content(instance=samples.instance(block_devices=devices))
    found = json.loads(read("/openstack/latest/meta_data.json", content))["devices"]
    assert found[1:] == [{"type": "disk", "bus": "none", "address": "none", "serial": "volume-1", "tags": ["data"]}]


def test_a_bare_server_has_no_keys_no_meta_and_no_user_data() -> None:
    bare = samples.instance(key_name=None, key_data=None, metadata={}, user_data=None)
    found = json.loads(read("/openstack/latest/meta_data.json", samples.content(instance=bare)))
    assert not {"meta", "keys", "public_keys", "files", "admin_pass"} & set(found)
    assert "user_data" not in read("/openstack/latest", samples.content(instance=bare)).decode().split("\n")
    assert documents.document(samples.content(instance=bare), "2012-08-10", "user_data") is None


@pytest.mark.parametrize("version", documents.VERSIONS)
def test_each_version_lists_its_documents(version: str) -> None:
    assert read(f"/openstack/{version}/").decode().split("\n") == NAMES.get(version, LATER)


def test_the_roots_list_versions() -> None:
    assert read("/openstack").decode().split("\n") == [*documents.VERSIONS, "latest"]


def test_user_data_are_the_very_bytes() -> None:
    assert read("/openstack/2012-08-10/user_data") == samples.ODD_BYTES
    assert read("/1.0/user-data") == samples.ODD_BYTES


def test_vendor_data() -> None:
    assert json.loads(read("/openstack/latest/vendor_data.json")) == {"static-key": 1}
    assert json.loads(read("/openstack/latest/vendor_data2.json")) == {
        "static": {"static-key": 1}, "target": {"answer": 42},
    }  # fmt: skip


def test_network_data() -> None:
    found: dict[str, Any] = json.loads(read("/openstack/latest/network_data.json"))
    check_network_data(found)
    assert found["links"] == [
        {"id": "tap11111111-22", "vif_id": "11111111-2222-4333-8444-555555555555", "type": "bridge", "mtu": 1450,
         "ethernet_mac_address": "fa:16:3e:00:00:01"},
        {"id": "tap66666666-77", "vif_id": "66666666-7777-4888-8999-aaaaaaaaaaaa", "type": "phy", "mtu": 1500,
         "ethernet_mac_address": "fa:16:3e:00:00:02"},
    ]  # fmt: skip
    assert found["networks"] == [
        {"id": "network0", "link": "tap11111111-22", "type": "ipv4_dhcp", "network_id": "net-1"},
        {"id": "network1", "link": "tap11111111-22", "type": "ipv6_slaac", "network_id": "net-1"},
        {
            "id": "network2", "link": "tap66666666-77", "type": "ipv4", "network_id": "net-2",
            "ip_address": "192.168.9.5", "netmask": "255.255.252.0",
            "routes": [
                {"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "192.168.8.1"},
                {"network": "172.16.0.0", "netmask": "255.240.0.0", "gateway": "192.168.8.9"},
            ],
            "services": [{"type": "dns", "address": "10.1.0.3"}],
        },
        {
            "id": "network3", "link": "tap66666666-77", "type": "ipv6", "network_id": "net-2",
            "ip_address": "2001:db8:2::5", "netmask": "ffff:ffff:ffff:ffff::",
            "routes": [{"network": "::", "netmask": "::", "gateway": "2001:db8:2::1"}], "services": [],
        },
    ]  # fmt: skip
    assert [each["address"] for each in found["services"]] == ["10.1.0.2", "10.1.0.3", "2001:db8::53"]


def test_no_ports_no_networks() -> None:
    check_network_data(network_data(()))
    assert network_data(()) == {"links": [], "networks": [], "services": []}


@pytest.mark.parametrize(("version", "count"), list(zip(ec2.VERSIONS, EC2_COUNTS, strict=True)))
def test_ec2_versions_grow(version: str, count: int) -> None:
    names = read(f"/{version}/meta-data/").decode().split("\n")
    assert len(names) == count
    for name in names:
        assert read(f"/{version}/meta-data/{name}")


def test_ec2_directories_and_leaves() -> None:
    assert read("/1.0/meta-data").decode().split("\n") == EC2_OLDEST
    assert read("/latest/meta-data").decode().split("\n") == EC2_NEWEST
    assert read("/latest").decode().split("\n") == ["meta-data/", "user-data"]
    leaves = {
        "public-keys/": "0=mykey",
        "public-keys/0": "openssh-key",
        "public-keys/0/openssh-key": samples.KEY,
        "instance-id": "i-0a1b2c3d4e5f4a6b8",
        "ami-id": "ami-aaaaaaaabbbb4ccc8",
        "local-ipv4": "10.1.0.5",
        "public-ipv4": "203.0.113.7",
        "security-groups": "default\nweb",
        "placement/availability-zone": "nova",
        "block-device-mapping": "ami\nephemeral0\nroot\nswap",
        "block-device-mapping/swap": "/dev/vdc",
        "instance-type": "m1.tiny",
        "hostname": "web-one.novalocal",
    }
    assert {name: read(f"/latest/meta-data/{name}").decode() for name in leaves} == leaves


@pytest.mark.parametrize(
    "path",
    ["/openstack/2011-01-01", "/openstack/latest/nothing", "/openstack/2012-08-10/password", "/2010-01-01/meta-data",
     "/latest/meta-data/public-keys/_name", "/latest/meta-data/public-keys/1", "/openstack/latest/../latest",
     "/openstack/latest/user_data/more", "/latest/meta-data/hostname/x"],
)  # fmt: skip
def test_what_there_is_not(path: str) -> None:
    with pytest.raises(Exception, match="no such document"):
        read(path)


def test_the_drive_holds_the_same_bytes() -> None:
    content = samples.content()
    files = drive_files(content)
    for version in (*documents.VERSIONS, "latest"):
        for name in read(f"/openstack/{version}").decode().split("\n"):
            if name != "password":
                assert files.pop(f"openstack/{version}/{name}") == read(f"/openstack/{version}/{name}")
    for version in (*ec2.VERSIONS, "latest"):
        assert files.pop(f"ec2/{version}/user-data") == samples.ODD_BYTES
        told = json.loads(files.pop(f"ec2/{version}/meta-data.json"))
        assert told["instance-id"] == read(f"/{version}/meta-data/instance-id").decode()
    assert files == {}


def test_the_drive_alone_has_password_and_files() -> None:
    files = drive_files(samples.content(injected_files=samples.FILES, admin_password="s3cret"))
    assert files["openstack/content/0000"] == b"hello\0\xff"
    for version in (*documents.VERSIONS, "latest"):
        found = json.loads(files[f"openstack/{version}/meta_data.json"])
        assert found["admin_pass"] == "s3cret"
        assert found["files"] == [{"content_path": "/content/0000", "path": "/etc/motd"}]


def test_versions_that_are_skipped() -> None:
    files = drive_files(samples.content(), frozenset({"1.0", "2018-08-27"}))
    assert not any(path.startswith(("ec2/1.0/", "openstack/2018-08-27/")) for path in files)
    assert "openstack/latest/meta_data.json" in files
