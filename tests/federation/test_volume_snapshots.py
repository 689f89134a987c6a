"""Snapshots of attached volumes that the block storage service asks for, from the wire to its books."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
import requests

from tests.federation.cloud import Federation
from tests.federation.test_volumes import attach, attached, ctx, detach, status, volume

PATH = "/os-assisted-volume-snapshots"
FAULTY = {"snapshot_volume": {"error": "DriverError", "times": 1}}


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    made = Federation(tmp_path_factory.mktemp("snapshots"), cells=1, hosts=1)
    yield made
    made.close()


def held(cloud: Federation) -> tuple[str, str]:
    """A server, and a volume that it has."""
    uuid, volume_id = cloud.boot(), volume(cloud)
    assert attach(cloud, uuid, volume_id).status == 200
    cloud.until(lambda: status(cloud, volume_id) == "in-use")
    return uuid, volume_id


def snapshot(cloud: Federation, volume_id: str, state: str) -> str:
    """A new snapshot for which the block storage service waits."""
    made = cloud.volumes.take_snapshot(ctx(), volume_id, "taken", None, force=True).id
    set_state(cloud, made, state)
    return made


def set_state(cloud: Federation, snapshot_id: str, state: str) -> None:
    body, headers = {"os-reset_status": {"status": state}}, {"X-Auth-Token": "admin:admin"}
    url = f"{cloud.storage.url}/v3/snapshots/{snapshot_id}/action"
    requests.post(url, json=body, headers=headers, timeout=10).raise_for_status()


def told(cloud: Federation, snapshot_id: str) -> tuple[str, str | None]:
    """What the block storage service was told."""
    url = f"{cloud.storage.url}/v3/snapshots/{snapshot_id}"
    found = requests.get(url, headers={"X-Auth-Token": "admin:admin"}, timeout=10).json()["snapshot"]
    return found["status"], found.get("os-extended-snapshot-attributes:progress")


def take(cloud: Federation, volume_id: str, snapshot_id: str, **more: str) -> Any:
    info = {"snapshot_id": snapshot_id, "type": "qcow2", "new_file": "volume.1", **more}
    return cloud.admin.post(PATH, {"snapshot": {"volume_id": volume_id, "create_info": info}}, version="2.96")


def remove(cloud: Federation, snapshot_id: str, info: Any) -> Any:
    return cloud.admin.delete(f"{PATH}/{snapshot_id}?delete_info={quote(json.dumps(info))}", version="2.96")


def on_host(cloud: Federation, uuid: str) -> dict[str, tuple[str, str]]:
    driver: Any = cloud.fleets["cell1"].agents["cell1-host1"].driver
    found: dict[str, tuple[str, str]] = driver.volume_snapshots(uuid)
    return found


def test_a_snapshot_is_taken_and_removed_by_the_host(cloud: Federation) -> None:
    uuid, volume_id = held(cloud)
    wanted = snapshot(cloud, volume_id, "creating")
    actions = cloud.admin.get(f"/servers/{uuid}/os-instance-actions").json
    answer = take(cloud, volume_id, wanted, id=wanted)
    assert (answer.status, answer.json) == (200, {"snapshot": {"id": wanted, "volumeId": volume_id}})
    cloud.until(lambda: told(cloud, wanted) == ("creating", "90%"))
    assert on_host(cloud, uuid) == {wanted: (volume_id, "volume.1")}

    set_state(cloud, wanted, "deleting")
    merge = {"volume_id": volume_id, "file_to_merge": "volume.1", "merge_target_file": None}
    assert remove(cloud, wanted, merge).status == 204
    cloud.until(lambda: told(cloud, wanted) == ("deleting", "90%"))
    assert on_host(cloud, uuid) == {}
    assert cloud.admin.get(f"/servers/{uuid}/os-instance-actions").json == actions
    assert cloud.show(uuid)["OS-EXT-STS:task_state"] is None


def test_a_snapshot_that_fails_is_told_so(cloud: Federation) -> None:
    uuid, volume_id = held(cloud)
    wanted = snapshot(cloud, volume_id, "creating")
    faults = cloud.directory / "cell1-host1" / "faults.json"
    faults.write_text(json.dumps(FAULTY))
    try:
        assert take(cloud, volume_id, wanted).json["snapshot"]["id"] is None
        cloud.until(lambda: told(cloud, wanted)[0] == "error")
    finally:
        faults.unlink()
    assert on_host(cloud, uuid) == {}
    assert cloud.show(uuid)["status"] == "ACTIVE"
    assert "fault" not in cloud.show(uuid)


def test_a_snapshot_that_is_not_there_any_more_ends_the_work(cloud: Federation) -> None:
    _, volume_id = held(cloud)
    assert take(cloud, volume_id, str(uuid4())).status == 200
    cloud.until(lambda: not cloud.unfinished())


def test_what_cannot_be_done_is_refused(cloud: Federation) -> None:
    free = volume(cloud)
    assert take(cloud, free, str(uuid4())).status == 400
    assert take(cloud, str(uuid4()), str(uuid4())).status == 400
    assert remove(cloud, str(uuid4()), {"volume_id": free}).status == 400
    assert remove(cloud, str(uuid4()), {"volume_id": str(uuid4())}).status == 404
    for info in ([], {}, "x", 5, None):
        assert remove(cloud, str(uuid4()), info).status == 400
    stranger = cloud.user("u", uuid4().hex)
    body = {"snapshot": {"volume_id": free, "create_info": {"snapshot_id": "s", "type": "qcow2", "new_file": "f"}}}
    assert stranger.post(PATH, body).status == 403

    uuid, volume_id = held(cloud)
    assert cloud.act(uuid, "shelve").status == 202
    assert cloud.settled(uuid)["status"] == "SHELVED_OFFLOADED"
    assert take(cloud, volume_id, str(uuid4())).status == 400


def test_a_volume_leaves_with_its_snapshots(cloud: Federation) -> None:
    uuid, volume_id = held(cloud)
    wanted = snapshot(cloud, volume_id, "creating")
    assert take(cloud, volume_id, wanted).status == 200
    cloud.until(lambda: on_host(cloud, uuid))
    assert detach(cloud, uuid, volume_id).status == 202
    cloud.until(lambda: not attached(cloud, uuid))
    assert on_host(cloud, uuid) == {}
