"""Disks of real guests on hosts that copy images and reserve all space: seen by the guests and on the hosts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cell_service.errors import Invalid, Unavailable
from tests.faults import bursts
from tests.faults.installation import Installation
from tests.lab.conftest import CACHE
from tests.lab.lab import Guest, Lab
from tests.suites import hostile_images
from tools.guest.image import build
from tools.up.drivers import choose

pytestmark = [pytest.mark.real, pytest.mark.faults, pytest.mark.timeout(1200)]

GIB, MIB = 2**30, 2**20
OPTIONS = {"OS_LIBVIRT__IMAGES_TYPE": "raw", "OS_DEFAULT__PREALLOCATE_IMAGES": "space"}
FLAVOR = {
    "id": "disks", "name": "disks", "vcpus": 1, "ram": 128, "disk": 2, "OS-FLV-EXT-DATA:ephemeral": 1, "swap": 64,
}  # fmt: skip


@pytest.fixture(scope="module")
def copying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A cloud whose hosts make root disks as preallocated copies."""
    directory = tmp_path_factory.mktemp("copying")
    try:
        choose("libvirt", "", directory)
        build(CACHE)
    except (Invalid, Unavailable) as error:
        pytest.skip(f"no real guests here: {error}")
    os.environ["POLYCELL_CACHE"] = str(CACHE)
    made = Lab(Installation(directory, "libvirt", hosts_per_cell=1, environment=OPTIONS))
    made.ask("POST", "/flavors", {"flavor": FLAVOR})
    made.flavors["disks"] = "disks"
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def cloud(copying: Lab) -> Iterator[Lab]:
    copying.installation.until_healthy()
    yield copying
    bursts.sweep(copying.installation)
    copying.demand_nothing()


def files(cloud: Lab, guest: Guest) -> Path:
    return cloud.installation.state / "hosts" / guest.host.split("-")[0] / guest.host / guest.uuid


def test_a_guest_sees_its_disks_in_full_and_its_host_has_their_space(cloud: Lab) -> None:
    guest = cloud.boot("disks", cloud.hosts[0], flavor="disks")
    cloud.until_ready(guest)
    sizes = {"vda": 2 * GIB, "vdb": GIB, "vdc": 64 * MIB}
    for name, size in sizes.items():
        assert int(cloud.ssh(guest, f"cat /sys/block/{name}/size")) * 512 == size
    last = 2 * GIB // 512 - 1
    cloud.ssh(guest, f"printf grown | dd of=/dev/vda bs=512 seek={last} conv=notrunc 2>/dev/null && sync")
    assert cloud.ssh(guest, f"dd if=/dev/vda bs=512 skip={last} count=1 2>/dev/null").startswith("grown")
    assert cloud.ssh(guest, "findfs LABEL=ephemeral0").strip() == "/dev/vdb"
    assert cloud.ssh(guest, "dd if=/dev/vdc bs=1 skip=4086 count=10 2>/dev/null") == "SWAPSPACE2"
    for name, size in {"disk": 2 * GIB, "disk.eph0": GIB, "disk.swap": 64 * MIB}.items():
        status = (files(cloud, guest) / name).stat()
        assert status.st_size == size
        assert status.st_blocks * 512 >= size
    assert not (files(cloud, guest) / "base").exists()
    cloud.act(guest, "reboot", {"type": "HARD"})
    cloud.until_ready(guest, times=2)


@pytest.mark.parametrize("case", ["vmdk of no size with another file", "iso inside raw", "qcow2 that is cut off"])
def test_a_hostile_image_becomes_no_server_and_leaves_nothing(cloud: Lab, case: str) -> None:
    claimed, content = hostile_images.HOSTILE[case]
    guest = cloud.boot("hostile", cloud.hosts[0], image=cloud.upload(case, content, claimed))
    assert "unacceptable" in cloud.until_status(guest, "ERROR")["fault"]["message"]
    assert cloud.left_on(guest.host) == {}


def test_an_image_that_nobody_signed_becomes_no_server_where_a_signature_is_requested(cloud: Lab) -> None:
    guest = cloud.boot("unsigned", cloud.hosts[0], trusted_image_certificates=["b9b4f4b4-0000-4000-8000-00000000000c"])
    assert "not signed" in cloud.until_status(guest, "ERROR")["fault"]["message"]
    assert cloud.left_on(guest.host) == {}
