"""os-resetState while work is under way; the work ends in any case."""

from __future__ import annotations

import json

import pytest

from cell_service.model.move import MoveKind
from mapping_db import quotas
from tests.federation.cloud import Federation
from tests.federation.test_moves import HOST, USES, ended, flavor, homes, migration_statuses, start
from tests.federation.test_volumes import attached, on_hypervisors, status, volume

DONE = "OS-EXT-STS:task_state"


def slowed(cloud: Federation, uuid: str, verb: str) -> None:
    """The host of the server waits a while before it does that."""
    host = cloud.show(uuid)["OS-EXT-SRV-ATTR:host"]
    (cloud.directory / host / "faults.json").write_text(json.dumps({f"{verb}:{uuid}": {"hang_seconds": 3, "times": 1}}))


@pytest.mark.parametrize("wanted", ["active", "error"])
def test_what_shows_in_the_state_is_given_up(own_cloud: Federation, wanted: str) -> None:
    cloud = own_cloud
    uuid = cloud.boot()
    slowed(cloud, uuid, "power_off")
    assert cloud.act(uuid, "os-stop").status == 202
    assert cloud.act(uuid, "os-resetState", {"state": wanted}).status == 202
    shown = cloud.show(uuid)
    assert (shown["OS-EXT-STS:vm_state"], shown[DONE]) == (wanted, None)
    cloud.until(lambda: not cloud.unfinished())
    newest, stop, *_ = cloud.admin.get(f"/servers/{uuid}/os-instance-actions").json["instanceActions"]
    assert (newest["action"], newest["message"]) == ("resetState", None)
    assert (stop["action"], stop["message"]) == ("stop", "Error")
    assert cloud.act(uuid, "reboot", {"type": "HARD"}).status == 202
    assert cloud.settled(uuid)["status"] == "ACTIVE"


def test_volumes_are_attached_and_detached_all_the_same(own_cloud: Federation) -> None:
    cloud = own_cloud
    uuid, held = cloud.boot(), volume(cloud)
    slowed(cloud, uuid, "attach_volume")
    body = {"volumeAttachment": {"volumeId": held}}
    assert cloud.admin.post(f"/servers/{uuid}/os-volume_attachments", body).status == 200
    assert cloud.act(uuid, "os-resetState", {"state": "active"}).status == 202
    cloud.until(lambda: status(cloud, held) == "in-use" and not cloud.unfinished())
    assert [each["volumeId"] for each in attached(cloud, uuid)] == [held]
    assert list(on_hypervisors(cloud, uuid).values()) == [[held]]


def test_a_delete_is_not_taken_back_by_it(own_cloud: Federation) -> None:
    cloud = own_cloud
    uuid = cloud.boot()
    slowed(cloud, uuid, "destroy")
    assert cloud.admin.delete(f"/servers/{uuid}").status == 204
    assert cloud.act(uuid, "os-resetState", {"state": "active"}).status in (202, 404)
    cloud.until(lambda: cloud.gone(uuid) and not cloud.unfinished())
    assert uuid not in cloud.allocations()


@pytest.mark.parametrize("wanted", ["active", "error"])
@pytest.mark.parametrize("there", ["cell1-host2", "cell2-host1"])
def test_a_move_under_way_is_undone(own_cloud: Federation, wanted: str, there: str) -> None:
    cloud = own_cloud
    uuid = cloud.boot(cell="cell1")
    slowed(cloud, uuid, "pack")
    start(cloud, uuid, MoveKind.COLD, target_host=there)
    cloud.until(lambda: cloud.show(uuid)[DONE] == "resize_migrating")
    assert cloud.act(uuid, "os-resetState", {"state": wanted}).status == 202
    ended(cloud, uuid)
    cloud.until(lambda: not cloud.unfinished())
    shown = cloud.show(uuid)
    assert (shown["OS-EXT-STS:vm_state"], shown[DONE], shown[HOST]) == (wanted, None, "cell1-host1")
    check_books(cloud, uuid, "cell1-host1")
    assert set(migration_statuses(cloud, uuid)) == {"error"}


@pytest.mark.parametrize("wanted", ["active", "error"])
@pytest.mark.parametrize("resized", [False, True])
def test_a_resize_that_waits(own_cloud: Federation, wanted: str, resized: bool) -> None:
    """It waits for nobody any more: the server stays where it is, and what it had before is gone."""
    cloud = own_cloud
    user = cloud.user("resizer", "reset-project")
    uuid = cloud.boot(user)
    other = "cell2-host1" if cloud.show(uuid)[HOST].startswith("cell1") else "cell1-host1"
    if resized:
        assert cloud.act(uuid, "resize", {"flavorRef": flavor(cloud)}, user).status == 202
    else:
        start(cloud, uuid, MoveKind.COLD, target_host=other)
    cloud.until(lambda: cloud.show(uuid)["status"] == "VERIFY_RESIZE")
    there = cloud.show(uuid)[HOST]
    assert cloud.act(uuid, "os-resetState", {"state": wanted}).status == 202
    assert cloud.show(uuid)["OS-EXT-STS:vm_state"] == wanted
    ended(cloud, uuid)
    cloud.until(lambda: not cloud.unfinished())
    assert cloud.show(uuid)["OS-EXT-STS:vm_state"] == wanted
    uses = {"VCPU": 2, "MEMORY_MB": 128, "DISK_GB": 2} if resized else USES
    check_books(cloud, uuid, there, uses)
    with cloud.db.connect() as tx:
        usage = quotas.usage_of(tx, "reset-project")
    assert (usage["cores"], usage["ram"]) == (uses["VCPU"], uses["MEMORY_MB"])
    assert set(migration_statuses(cloud, uuid)) == {"confirmed"}


def test_a_build_that_is_given_up_leaves_what_a_delete_clears(own_cloud: Federation) -> None:
    cloud = own_cloud
    faults = {"spawn": {"hang_seconds": 5, "times": 1}}
    (cloud.directory / "cell1-host1" / "faults.json").write_text(json.dumps(faults))
    answer = cloud.post_server(availability_zone="nova:cell1-host1", networks="auto")
    uuid = answer.json["server"]["id"]
    cloud.until(lambda: cloud.show(uuid)[DONE] == "spawning")
    assert cloud.act(uuid, "os-resetState", {"state": "active"}).status == 202
    cloud.until(lambda: not cloud.unfinished())
    shown = cloud.show(uuid)
    assert (shown["status"], shown[DONE]) == ("ACTIVE", None)
    assert cloud.admin.delete(f"/servers/{uuid}").status == 204
    cloud.until(lambda: cloud.gone(uuid) and not cloud.unfinished())
    cloud.until(lambda: homes(cloud, uuid) == [] and uuid not in cloud.allocations())
    assert [port for port in cloud.networks.ports.values() if port.instance_uuid == uuid] == []


def check_books(cloud: Federation, uuid: str, host: str, uses: dict[str, int] = USES) -> None:
    """One guest, one claim, and a server that can be used."""
    assert homes(cloud, uuid) == [host]
    assert cloud.allocations() == {uuid: uses}
    assert cloud.act(uuid, "reboot", {"type": "HARD"}).status == 202
    assert cloud.settled(uuid)["status"] == "ACTIVE"
