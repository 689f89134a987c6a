"""Answers of the block storage companion, as published (Block Storage API reference, v3)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from api_cell.edge.auth import NoAuth
from tests.suites.peers import MemoryImages
from tools.companions.app import Companion
from tools.companions.volume.service import make_volume


class Service:
    """A block storage companion, its image service, and a user of the project p1."""

    def __init__(self, companion: Companion, images: MemoryImages) -> None:
        self.images, self._url = images, companion.url

    def send(self, method: str, path: str, body: Any = None, *, by: str = "user:p1", **headers: str) -> Any:
        known = {"X-Auth-Token": by, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return requests.request(method, f"{self._url}/v3{path}", json=body, headers=known, timeout=10)

    def volume(self, **fields: Any) -> dict[str, Any]:
        version = {"OpenStack_API_Version": "volume 3.46"}
        return dict(self.send("POST", "/volumes", {"volume": {"size": 1, **fields}}, **version).json()["volume"])

    def snapshot(self, volume: str) -> dict[str, Any]:
        return dict(self.send("POST", "/snapshots", {"snapshot": {"volume_id": volume}}).json()["snapshot"])


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    images = MemoryImages()
    companion = make_volume(tmp_path, NoAuth(), images)
    companion.start()
    yield Service(companion, images)
    companion.drain(2)


@pytest.mark.parametrize(
    ("asked", "told", "status"),
    [(None, "volume 3.0", 200), ("volume 3.27", "volume 3.27", 200), ("volume latest", "volume 3.70", 200),
     ("compute 2.1, volume 3.5", "volume 3.5", 200), ("volume 3.999", None, 406), ("volume x", None, 400)],
)  # fmt: skip
def test_every_answer_tells_its_version(service: Service, asked: str | None, told: str | None, status: int) -> None:
    headers = {"OpenStack_API_Version": asked} if asked else {}
    for path in ("/volumes", "/limits"):
        answer = service.send("GET", path, **headers)
        assert (answer.status_code, answer.headers.get("OpenStack-API-Version")) == (status, told)
        assert answer.headers["Vary"] == "OpenStack-API-Version"
    if told is not None:
        missing = service.send("GET", "/volumes/nothing", **headers)
        assert (missing.status_code, missing.headers["OpenStack-API-Version"]) == (404, told)


def test_writes_show_what_they_show_as_published(service: Service) -> None:
    """The extensions add to what is shown of a volume and of a snapshot, and not to what is written."""
    volume = service.volume()
    one = f"/volumes/{volume['id']}"
    changed = service.send("PUT", one, {"volume": {"name": "other"}}).json()["volume"]
    shown = service.send("GET", one).json()["volume"]
    assert volume.keys() == changed.keys() == shown.keys() - {"os-vol-tenant-attr:tenant_id"}
    snapshot = service.snapshot(volume["id"])
    assert snapshot.keys() == {"id", "name", "description", "size", "status", "volume_id", "metadata", "created_at",
                               "updated_at"}  # fmt: skip
    extended = service.send("GET", f"/snapshots/{snapshot['id']}").json()["snapshot"]
    assert extended["os-extended-snapshot-attributes:project_id"] == "p1"


def test_actions_answer_with_their_status(service: Service) -> None:
    path = f"/volumes/{service.volume()['id']}/action"
    assert service.send("POST", path, {"os-set_bootable": {"bootable": True}}).status_code == 200
    assert service.send("POST", path, {"os-extend": {"new_size": 2}}).status_code == 202
    marked = service.send("POST", path, {"os-set_image_metadata": {"metadata": {"a": "b"}}})
    assert (marked.status_code, marked.json()) == (200, {"metadata": {"a": "b"}})


def test_a_volume_goes_with_its_snapshots_where_that_is_requested(service: Service) -> None:
    volume = service.volume()["id"]
    snapshot = service.snapshot(volume)["id"]
    assert service.send("DELETE", f"/volumes/{volume}").status_code == 400
    assert service.send("GET", f"/snapshots/{snapshot}").status_code == 200
    assert service.send("DELETE", f"/volumes/{volume}?cascade=True").status_code == 202
    assert service.send("GET", f"/volumes/{volume}").status_code == 404
    assert service.send("GET", f"/snapshots/{snapshot}").status_code == 404


def test_what_dashboards_read(service: Service) -> None:
    service.snapshot(service.volume(size=2)["id"])
    limits = service.send("GET", "/limits").json()["limits"]["absolute"]
    assert (limits["totalVolumesUsed"], limits["totalSnapshotsUsed"], limits["totalGigabytesUsed"]) == (1, 1, 4)
    for path in ("/os-volume-transfer/detail", "/os-volume-transfer"):
        assert service.send("GET", path).json() == {"transfers": []}
    assert service.send("DELETE", "/os-quota-sets/p1").status_code == 403
    assert service.send("DELETE", "/os-quota-sets/p1", by="admin:p1").status_code == 200


def test_an_attachment_in_use_is_for_services_to_delete(service: Service) -> None:
    volume = service.volume()["id"]
    body = {"attachment": {"volume_uuid": volume, "instance_uuid": "server", "connector": {"host": "h"}}}
    made = service.send("POST", "/attachments", body).json()["attachment"]["id"]
    for by in ("user:p1", "admin:p1"):
        refused = service.send("DELETE", f"/attachments/{made}", by=by)
        assert refused.status_code == 409
        assert "Compute API" in refused.json()["conflictingRequest"]["message"]
    assert service.send("DELETE", f"/attachments/{made}", X_Service_Token="nova:service").status_code == 200
    del body["attachment"]["connector"]
    reserved = service.send("POST", "/attachments", body).json()["attachment"]["id"]
    assert service.send("DELETE", f"/attachments/{reserved}").status_code == 200


def test_an_attachment_is_complete_without_a_host(service: Service) -> None:
    volume = service.volume()["id"]
    body = {"attachment": {"volume_uuid": volume, "instance_uuid": "server"}}
    made = service.send("POST", "/attachments", body).json()["attachment"]["id"]
    assert service.send("POST", f"/attachments/{made}/action", {"os-complete": None}).status_code == 204
    shown = service.send("GET", f"/volumes/{volume}").json()["volume"]
    assert (shown["status"], shown["attachments"][0]["host_name"]) == ("in-use", None)


@pytest.mark.parametrize("version", ["3.45", "3.46"])
def test_an_image_of_a_volume_makes_a_volume_of_its_snapshot(service: Service, version: str) -> None:
    """As of 3.46; before, such an image has nothing to make a volume of."""
    snapshot = service.snapshot(service.volume(size=2)["id"])["id"]
    mapping = [{"snapshot_id": "other", "boot_index": 1}, {"snapshot_id": snapshot, "boot_index": 0, "volume_size": 2}]
    properties = {"block_device_mapping": json.dumps(mapping), "root_device_name": "/dev/vda"}
    image = service.images.add(b"", properties=properties, owner="p1")
    made = service.send(
        "POST", "/volumes", {"volume": {"size": 3, "imageRef": image}}, OpenStack_API_Version=f"volume {version}"
    ).json()["volume"]
    shown = service.send("GET", f"/volumes/{made['id']}").json()["volume"]
    assert shown["snapshot_id"] == (snapshot if version == "3.46" else None)
    assert (shown["status"], shown["size"], shown["bootable"]) == ("available", 3, "true")
