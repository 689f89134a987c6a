"""Answers of the block storage companion, as published (Block Storage API reference, v3)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.suites.volume_service import Service, opened, with_qemu


@pytest.fixture(params=["none", pytest.param("nbd", marks=with_qemu)])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    """Without and with bytes that hosts reach."""
    with opened(tmp_path, request.param) as service:
        yield service


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


LUKS = {"provider": "luks", "control_location": "front-end", "cipher": "aes-xts-plain64", "key_size": 256}


def test_the_encryption_of_a_type_is_made_shown_changed_and_deleted(service: Service) -> None:
    admin = {"by": "admin:p1"}
    kind = service.kind("LUKS")
    path = f"/types/{kind}/encryption"
    assert service.send("GET", path, **admin).json() == {}
    made = service.send("POST", path, {"encryption": {**LUKS, "key_size": "256"}}, **admin).json()["encryption"]
    assert made == {**LUKS, "volume_type_id": kind, "encryption_id": made["encryption_id"]}
    shown = service.send("GET", path, **admin).json()
    assert shown == {**made, "created_at": shown["created_at"], "updated_at": None, "deleted": False,
                     "deleted_at": None}  # fmt: skip
    assert service.send("GET", f"{path}/cipher", **admin).json() == {"cipher": "aes-xts-plain64"}
    assert service.send("GET", f"{path}/odd", **admin).status_code == 404
    again = service.send("POST", path, {"encryption": LUKS}, **admin)
    assert (again.status_code, "already exists" in again.text) == (400, True)
    one = f"{path}/{made['encryption_id']}"
    changed = service.send("PUT", one, {"encryption": {"key_size": 128}}, **admin)
    assert (changed.status_code, changed.json()) == (200, {"encryption": {"key_size": 128}})
    assert service.send("GET", f"{path}/key_size", **admin).json() == {"key_size": 128}
    for method, body in (("GET", None), ("POST", {"encryption": LUKS})):
        assert service.send(method, path, body).status_code == 403
    for method, body in (("GET", None), ("PUT", {"encryption": {}}), ("DELETE", None)):
        assert service.send(method, one, body).status_code == 403
    assert service.send("DELETE", one, **admin).status_code == 202
    assert service.send("DELETE", one, **admin).status_code == 404
    assert service.send("PUT", one, {"encryption": {"key_size": 1}}, **admin).status_code == 404
    assert service.send("GET", "/types/nothing/encryption", **admin).status_code == 404


@pytest.mark.parametrize(
    "odd",
    [{"provider": ""}, {"provider": None}, {"control_location": "middle"}, {"key_size": -1}, {"key_size": "many"},
     {"key_size": 2**40}, {"cipher": 7}, {"odd": 1}],
)  # fmt: skip
def test_odd_encryption_is_refused(service: Service, odd: dict[str, Any]) -> None:
    path = f"/types/{service.kind('LUKS')}/encryption"
    assert service.send("POST", path, {"encryption": {**LUKS, **odd}}, by="admin:p1").status_code == 400
    for needed in ("provider", "control_location"):
        rest = {name: value for name, value in LUKS.items() if name != needed}
        assert service.send("POST", path, {"encryption": rest}, by="admin:p1").status_code == 400
    assert service.send("GET", path, by="admin:p1").json() == {}


def test_no_volume_is_made_in_clear_that_must_be_encrypted(service: Service) -> None:
    """There is no key manager. What is in clear is not copied to an encrypted volume."""
    service.kind("LUKS", **LUKS)
    source = service.volume()
    for words, more in (
        ("Key manager error", {}),
        ("Invalid input received: Invalid volume_type", {"source_volid": source["id"]}),
        ("Invalid input received: Invalid volume_type", {"snapshot_id": service.snapshot(source["id"])["id"]}),
    ):
        answer = service.send("POST", "/volumes", {"volume": {"size": 1, "volume_type": "LUKS", **more}})
        assert answer.status_code == 400
        assert answer.json()["badRequest"]["message"].startswith(words)
    assert [one["id"] for one in service.send("GET", "/volumes").json()["volumes"]] == [source["id"]]
    shown = service.send("GET", f"/volumes/{source['id']}").json()["volume"]
    assert (shown["encrypted"], "encryption_key_id" in shown) == (False, False)
    answer = service.send("GET", f"/volumes/{source['id']}/encryption")
    assert answer.json() == {"encryption_key_id": None}
    assert service.send("GET", f"/volumes/{source['id']}/encryption", by="user:p2").status_code == 404


def test_a_type_in_use_stays_as_it_is(service: Service) -> None:
    kind = service.kind("plain")
    volume = service.volume(volume_type="plain")["id"]
    path = f"/types/{kind}/encryption"
    for method, where, body in (("POST", path, {"encryption": LUKS}), ("PUT", f"{path}/x", {"encryption": {}}),
                                ("DELETE", f"{path}/x", None)):  # fmt: skip
        answer = service.send(method, where, body, by="admin:p1")
        assert (answer.status_code, "encryption specs. Volume type in use." in answer.text) == (400, True)
    assert service.send("DELETE", f"/types/{kind}", by="admin:p1").status_code == 400
    assert service.send("DELETE", f"/volumes/{volume}").status_code == 202
    assert service.send("POST", path, {"encryption": LUKS}, by="admin:p1").status_code == 200
    assert service.send("DELETE", f"/types/{kind}", by="admin:p1").status_code == 202


def test_versions_are_a_choice_where_none_is_named(service: Service) -> None:
    root = service.send("GET", "/..", by="")
    assert (root.status_code, root.json()["versions"][0]["version"]) == (300, "3.70")
    assert service.send("GET", "/", by="").status_code == 200
