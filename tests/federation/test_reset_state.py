"""os-resetState while work is under way; the work ends in any case."""

from __future__ import annotations

import json

import pytest

from tests.federation.cloud import Federation
from tests.federation.test_volumes import attached, on_hypervisors, status, volume

DONE = "OS-EXT-STS:task_state"


def slowed(cloud: Federation, uuid: str, verb: str) -> None:
    """The host of the server waits a while before it does that."""
    host = cloud.show(uuid)["OS-EXT-SRV-ATTR:host"]
    (cloud.directory / host / "faults.json").write_text(json.dumps({f"{verb}:{uuid}": {"hang_seconds": 1, "times": 1}}))


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
