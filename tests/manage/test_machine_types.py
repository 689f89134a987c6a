"""`libvirt`: recorded machine types."""

from __future__ import annotations

import pytest

from cell_service.db import instances
from cell_service.model.instance import MACHINE_TYPE
from cell_service.model.lifecycle import VmState
from tests.manage.conftest import NOW, Site
from tools.manage.machine_types import may_follow, parsed


def made(site: Site, machine: str | None = None, cell: str = "c1", vm_state: VmState = VmState.STOPPED) -> str:
    """An instance with a guest, mapped to the cell."""
    uuid = site.add_instance(cell, host="h1")
    with site.database(cell).begin() as tx:
        known = {} if machine is None else {MACHINE_TYPE: machine}
        instances.change(tx, uuid, now=NOW, vm_state=vm_state, system_metadata={"image_os_type": "linux", **known})
    assert site.run("cell_v2", "map_instances", "--cell_uuid", cell).code == 0
    return uuid


@pytest.fixture
def site_with_cell(site: Site) -> Site:
    site.add_cell("c1")
    return site


def recorded(site: Site, uuid: str) -> dict[str, str]:
    with site.database("c1").connect() as tx:
        return instances.get(tx, uuid).system_metadata


def test_the_recorded_type_is_printed(site_with_cell: Site) -> None:
    uuid, bare = made(site_with_cell, "q35"), made(site_with_cell)
    ran = site_with_cell.run("libvirt", "get_machine_type", uuid)
    assert (ran.code, ran.out.strip()) == (0, "q35")
    assert site_with_cell.run("libvirt", "get_machine_type", bare).code == 3
    assert site_with_cell.run("libvirt", "get_machine_type", "no-such").code == 2


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (None, "q35", 0),
        (None, "pc-q35-7.2", 0),
        (None, "isapc", 5),
        ("pc-q35-7.1", "pc-q35-7.2", 0),
        ("pc-q35-7.2", "pc-q35-7.2", 0),
        ("pc-q35-7.2", "pc-q35-7.1", 4),
        ("pc-i440fx-9.2", "pc-i440fx-10.0", 0),
        ("pc-q35-rhel8.2.0", "pc-q35-rhel8.5.0", 0),
        ("pc-q35-rhel8.2.0", "pc-q35-8.5", 4),
        ("pc", "q35", 4),
        ("pc", "pc-i440fx-7.2", 4),
        ("q35", "pc-q35-7.2", 4),
        ("magic", "q35", 4),
    ],
)
def test_a_type_is_recorded_where_the_guest_can_follow(site_with_cell: Site, old: str, new: str, code: int) -> None:
    uuid = made(site_with_cell, old)
    ran = site_with_cell.run("libvirt", "update_machine_type", uuid, new)
    assert ran.code == code, ran.err
    expected = new if code == 0 else old
    assert recorded(site_with_cell, uuid).get(MACHINE_TYPE) == expected
    assert recorded(site_with_cell, uuid)["image_os_type"] == "linux"


def test_a_running_guest_keeps_its_type_unless_forced(site_with_cell: Site) -> None:
    uuid = made(site_with_cell, "pc", vm_state=VmState.ACTIVE)
    refused = site_with_cell.run("libvirt", "update_machine_type", uuid, "pc")
    assert (refused.code, "active" in refused.err) == (3, True)
    assert site_with_cell.run("libvirt", "update_machine_type", uuid, "q35", "--force").code == 0
    assert recorded(site_with_cell, uuid)[MACHINE_TYPE] == "q35"
    assert site_with_cell.run("libvirt", "update_machine_type", "no-such", "q35").code == 2


def test_instances_without_a_type_are_listed_by_cell(site: Site) -> None:
    site.add_cell("c1")
    other = site.add_cell("c2")
    made(site, "pc")
    bare, far = made(site), made(site, cell="c2")
    site.add_instance("c1")  # not on a host: it never had a guest
    site.add_instance("c1", host="h1", deleted=True)

    listed = site.run("libvirt", "list_unset_machine_type", "-f", "json")
    assert (listed.code, {each["uuid"] for each in listed.json}) == (3, {bare, far})
    one = site.run("libvirt", "list_unset_machine_type", "--cell_uuid", other.uuid, "-f", "json")
    assert (one.code, [(each["uuid"], each["cell_name"]) for each in one.json]) == (3, [(far, "c2")])
    assert site.run("libvirt", "list_unset_machine_type", "--cell-uuid", "c3").code == 2
    assert site.run("libvirt", "update_machine_type", far, "pc").code == 0
    assert site.run("libvirt", "list_unset_machine_type", "--cell_uuid", "c2").code == 0


def test_types_are_compared_by_family_and_version() -> None:
    old, new = parsed("pc-q35-7.2"), parsed("pc-q35-7.10")
    assert old is not None
    assert new is not None
    assert may_follow(old, new)
    assert not may_follow(new, old)
    assert parsed("pc-q35-") is None
    assert parsed("") is None
