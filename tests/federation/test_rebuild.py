"""Rebuilding in place, from the wire to the hypervisor."""

from __future__ import annotations

from typing import Any

import pytest

from tests.federation.cloud import Federation


def rebuild(cloud: Federation, uuid: str, version: str = "2.94", by: Any = None, **fields: Any) -> Any:
    body = {"rebuild": {"imageRef": cloud.image_id, **fields}}
    return (by or cloud.admin).post(f"/servers/{uuid}/action", body, version=version)


def test_a_server_is_made_anew_where_it_is(cloud: Federation) -> None:
    owner = cloud.user("rebuilder", "rebuild-project")
    uuid = cloud.boot(owner, networks="auto", metadata={"a": "1"})
    before, other = cloud.show(uuid), cloud.images.add(b"another image", properties={"hw_machine_type": "q35"})

    answer = rebuild(
        cloud, uuid, by=owner, imageRef=other, name="anew", metadata={"b": "2"}, description="words",
        adminPass="secret", user_data="aGVsbG8=", hostname="anew.example.org", accessIPv4="1.2.3.4",
    )  # fmt: skip

    assert answer.status == 202, answer.raw
    assert answer.headers["Location"].endswith(f"/servers/{uuid}")
    shown = answer.json["server"]
    assert (shown["status"], shown["name"], shown["adminPass"]) == ("REBUILD", "anew", "secret")
    assert (shown["image"]["id"], shown["metadata"], shown["description"]) == (other, {"b": "2"}, "words")
    assert (shown["user_data"], shown["accessIPv4"], shown["progress"]) == ("aGVsbG8=", "1.2.3.4", 0)

    after = cloud.settled(uuid)
    assert (after["status"], after["image"]["id"]) == ("ACTIVE", other)
    assert after["OS-EXT-SRV-ATTR:host"] == before["OS-EXT-SRV-ATTR:host"]
    assert after["OS-EXT-SRV-ATTR:hostname"] == "anew.example.org"
    assert after["addresses"] == before["addresses"]
    assert after["addresses"]
    assert uuid in cloud.guests()[after["OS-EXT-SRV-ATTR:host"]]
    assert uuid in cloud.allocations()
    assert [each["id"] for each in owner.get("/servers?name=anew").json["servers"]] == [uuid]
    (newest, *_) = cloud.admin.get(f"/servers/{uuid}/os-instance-actions", version="2.94").json["instanceActions"]
    assert newest["action"] == "rebuild"
    assert newest["message"] is None


def test_a_stopped_server_stays_so(cloud: Federation) -> None:
    uuid = cloud.boot()
    assert cloud.act(uuid, "os-stop").status == 202
    cloud.settled(uuid)
    answer = rebuild(cloud, uuid, "2.1")
    assert answer.status == 202, answer.raw
    assert "user_data" not in answer.json["server"]
    assert "OS-EXT-SRV-ATTR:host" not in answer.json["server"]
    assert answer.json["server"]["adminPass"]
    assert cloud.settled(uuid)["status"] == "SHUTOFF"


def test_what_cannot_be_rebuilt_is_left_as_it_is(cloud: Federation) -> None:
    uuid = cloud.boot()
    large = cloud.images.add(b"large", min_disk_gib=50)
    queued = cloud.images.add(b"queued", status="queued")
    encrypted = cloud.images.add(b"encrypted", properties={"hw_ephemeral_encryption": "true"})
    for image in (large, queued, encrypted, "5d1c5a2a-0000-4000-8000-000000000000"):
        assert rebuild(cloud, uuid, imageRef=image, name="never").status == 400
    assert rebuild(cloud, uuid, key_name="nobody-has-this").status == 400
    assert rebuild(cloud, uuid, "2.53", key_name=None).status == 400
    assert rebuild(cloud, uuid, "2.56", user_data="aGVsbG8=").status == 400
    assert cloud.show(uuid)["name"] == "s"

    assert cloud.act(uuid, "pause").status == 202
    cloud.settled(uuid)
    assert rebuild(cloud, uuid).status == 409
    stranger = cloud.user("stranger", "another-project")
    assert rebuild(cloud, uuid, by=stranger).status == 404


def test_ephemeral_disks_are_not_promised_to_be_preserved(cloud: Federation) -> None:
    flavor = {"id": "ephemeral", "name": "ephemeral", "vcpus": 1, "ram": 64, "disk": 1, "OS-FLV-EXT-DATA:ephemeral": 1}
    cloud.admin.post("/flavors", {"flavor": flavor})
    with_disk, without = cloud.boot(flavorRef="ephemeral"), cloud.boot()
    refused = rebuild(cloud, with_disk, preserve_ephemeral=True)
    assert refused.status == 400
    assert "ephemeral" in refused.fault[1]
    assert rebuild(cloud, without, preserve_ephemeral=True).status == 202
    assert rebuild(cloud, with_disk, preserve_ephemeral=False).status == 202
    for uuid in (with_disk, without):
        assert cloud.settled(uuid)["status"] == "ACTIVE"


@pytest.mark.parametrize("by", ["owner", "admin"])
def test_a_locked_server_is_rebuilt_by_administrators_only(cloud: Federation, by: str) -> None:
    owner = cloud.user("locker", "locked-project")
    uuid = cloud.boot(owner)
    assert cloud.act(uuid, "lock", by=owner).status == 202
    answer = rebuild(cloud, uuid, by=owner if by == "owner" else None)
    assert answer.status == (409 if by == "owner" else 202)
    cloud.settled(uuid)
