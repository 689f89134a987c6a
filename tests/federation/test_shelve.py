"""Servers that are shelved, lose their hosts, and come back; in their cell, and in another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from cell_service.context import Deadline
from cell_service.db import instances
from cell_service.model import shelved
from cell_service.model.instance import Instance
from mapping_db import instance_mappings
from tests.federation.cloud import Federation
from tests.federation.test_moves import HOST, USES, ended, homes


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    made = Federation(tmp_path_factory.mktemp("cloud"), move_seconds=0, live_seconds=0)
    yield made
    made.close()


def instance_of(cloud: Federation, uuid: str) -> Instance:
    cell_id = cloud.cloud.locator.find(uuid).cell_id
    assert cell_id is not None
    with cloud.cells.open(cell_id).db.connect(Deadline.after(10)) as tx:
        return instances.get(tx, uuid, deleted=True)


def shelve(cloud: Federation, uuid: str) -> str:
    """The image's id."""
    answer = cloud.act(uuid, "shelve")
    assert answer.status == 202, answer.raw
    shown = cloud.settled(uuid)
    assert (shown["status"], shown.get("fault")) == ("SHELVED_OFFLOADED", None)
    image_id = shelved.image_of(instance_of(cloud, uuid).system_metadata)
    assert image_id is not None
    return image_id


def shelved_images(cloud: Federation, uuid: str) -> list[str]:
    return [image.id for image in cloud.images.records.values() if image.properties.get("instance_uuid") == uuid]


def console(cloud: Federation, uuid: str) -> str:
    answer = cloud.act(uuid, "os-getConsoleOutput", {})
    assert answer.status == 200, answer.raw
    return str(answer.json["output"])


def cell_of(cloud: Federation, uuid: str) -> int | None:
    with cloud.db.connect() as tx:
        return instance_mappings.get(tx, uuid).cell_id


def test_a_shelved_server_keeps_its_identity_and_nothing_else(quick: Federation) -> None:
    uuid = quick.boot(name="sleeper", networks="auto", tags=["x"])
    before = quick.show(uuid)
    image_id = shelve(quick, uuid)
    shown = quick.show(uuid)
    assert shown[HOST] is None
    assert shown["OS-EXT-STS:power_state"] == 0
    assert shown["addresses"] == before["addresses"]
    assert homes(quick, uuid) == []
    assert uuid not in quick.allocations()
    assert [port.host for port in quick.networks.of(uuid)] == [None]
    image = quick.images.records[image_id]
    assert (image.name, image.owner, image.status) == ("sleeper-shelved", "admin-project", "active")
    listed = quick.admin.get("/servers/detail?status=SHELVED_OFFLOADED", version="2.96").json["servers"]
    assert uuid in [each["id"] for each in listed]
    for action, content in (("os-start", None), ("os-stop", None), ("reboot", {"type": "HARD"}), ("shelve", None),
                            ("shelveOffload", None), ("migrate", None), ("resize", {"flavorRef": "1"}),
                            ("os-migrateLive", {"host": None, "block_migration": "auto"})):  # fmt: skip
        assert quick.act(uuid, action, content).status in (400, 409), action
    assert "vm_state shelved_offloaded" in quick.act(uuid, "os-stop").json["conflictingRequest"]["message"]


def test_it_comes_back_as_the_same_guest(quick: Federation) -> None:
    uuid = quick.boot(name="sleeper", networks="auto", metadata={"a": "b"}, tags=["x"])
    before, log = quick.show(uuid), console(quick, uuid)
    shelve(quick, uuid)
    assert quick.act(uuid, "unshelve").status == 202
    after = quick.settled(uuid)
    assert (after["status"], after.get("fault")) == ("ACTIVE", None)
    ended(quick, uuid)
    assert homes(quick, uuid) == [after[HOST]]
    assert [port.host for port in quick.networks.of(uuid)] == [after[HOST]]
    assert quick.allocations()[uuid] == USES
    assert console(quick, uuid).startswith(log)
    assert shelved_images(quick, uuid) == []
    assert instance_of(quick, uuid).system_metadata.keys().isdisjoint({shelved.IMAGE, shelved.AT, shelved.HOST})
    moved = {HOST, "OS-EXT-SRV-ATTR:hypervisor_hostname", "hostId", "host_status", "updated",
             "OS-EXT-AZ:availability_zone", "OS-SRV-USG:launched_at"}  # fmt: skip
    assert {k: v for k, v in after.items() if k not in moved} == {k: v for k, v in before.items() if k not in moved}
    history = quick.admin.get(f"/servers/{uuid}/os-instance-actions", version="2.96").json["instanceActions"]
    assert [(each["action"], each["message"]) for each in history[:2]] == [("unshelve", None), ("shelve", None)]


def test_it_comes_back_in_another_cell(quick: Federation) -> None:
    uuid = quick.boot(cell="cell1", networks="auto")
    log = console(quick, uuid)
    shelve(quick, uuid)
    assert quick.act(uuid, "unshelve", {"host": "cell2-host2", "availability_zone": None}).status == 202
    quick.until(lambda: quick.show(uuid)["status"] == "ACTIVE")
    ended(quick, uuid)
    assert cell_of(quick, uuid) == quick.ids["cell2"]
    assert homes(quick, uuid) == ["cell2-host2"]
    assert console(quick, uuid).startswith(log)
    assert shelved_images(quick, uuid) == []
    shown = quick.show(uuid)
    assert (shown[HOST], shown["pinned_availability_zone"]) == ("cell2-host2", None)
    assert quick.act(uuid, "os-stop").status == 202
    assert quick.settled(uuid)["status"] == "SHUTOFF"
    shelve(quick, uuid)
    assert len(shelved_images(quick, uuid)) == 1


@pytest.mark.parametrize("action", ["os-stop", "pause", "suspend", None])
def test_servers_are_shelved_from_these_states(quick: Federation, action: str | None) -> None:
    uuid = quick.boot()
    if action is not None:
        assert quick.act(uuid, action).status == 202
        quick.settled(uuid)
    image_id = shelve(quick, uuid)
    assert shelved_images(quick, uuid) == [image_id]
    assert quick.admin.delete(f"/servers/{uuid}").status == 204
    quick.until(lambda: quick.gone(uuid) and not quick.unfinished())
    assert shelved_images(quick, uuid) == []


def test_who_may_come_back_where(quick: Federation) -> None:
    project = uuid4().hex
    user = quick.user("u", project)
    uuid = quick.boot(user)

    def unshelve(content: Any, version: str = "2.96") -> int:
        return user.post(f"/servers/{uuid}/action", {"unshelve": content}, version=version).status

    assert unshelve(None) == 409
    assert quick.act(uuid, "shelve", by=user).status == 202
    assert quick.settled(uuid, quick.admin)["status"] == "SHELVED_OFFLOADED"
    assert unshelve({"availability_zone": "nowhere"}) == 400
    assert unshelve({"availability_zone": "nova", "host": "x"}, "2.90") == 400
    assert unshelve({"availability_zone": None}, "2.90") == 400
    assert unshelve({"host": "cell1-host1"}) == 403
    assert quick.act(uuid, "unshelve", {"host": "nobody"}).status == 400
    assert quick.user("v", uuid4().hex).post(f"/servers/{uuid}/action", {"unshelve": None}).status == 404
    assert unshelve({"availability_zone": "nova"}, "2.77") == 202
    shown = quick.settled(uuid, quick.admin)
    assert (shown["status"], shown["pinned_availability_zone"]) == ("ACTIVE", "nova")
    assert quick.act(uuid, "shelveOffload").status == 409


def test_a_server_that_finds_no_host_stays_shelved(quick: Federation) -> None:
    uuid = quick.boot()
    image_id = shelve(quick, uuid)
    quick.images.down = True
    try:
        assert quick.act(uuid, "unshelve").status == 202
        shown = quick.settled(uuid)
    finally:
        quick.images.down = False
    assert shown["status"] == "SHELVED_OFFLOADED"
    ended(quick, uuid)
    assert (homes(quick, uuid), shelved_images(quick, uuid)) == ([], [image_id])
    assert uuid not in quick.allocations()
    assert quick.act(uuid, "unshelve").status == 202
    assert quick.settled(uuid)["status"] == "ACTIVE"


def test_the_state_of_a_server_without_a_host_is_reset(quick: Federation) -> None:
    uuid = quick.boot()
    shelve(quick, uuid)
    assert quick.act(uuid, "os-resetState", {"state": "error"}).status == 202
    assert quick.show(uuid)["status"] == "ERROR"
    assert quick.act(uuid, "os-start").status == 409
    assert quick.admin.delete(f"/servers/{uuid}").status == 204
    quick.until(lambda: quick.gone(uuid) and not quick.unfinished())
    assert shelved_images(quick, uuid) == []
