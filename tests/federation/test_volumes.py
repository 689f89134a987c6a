"""Volumes of servers, from the wire to the hypervisor and the block storage service."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests

from cell_service.context import SYSTEM_CLOCK, Context, Deadline
from cell_service.errors import Invalid, PeerUnavailable
from cell_service.peers.volumes import NewVolume
from tests.federation.cloud import Federation
from tools.manage.volume_refresh import NotStopped, refreshed

LATEST = "2.96"


def ctx() -> Context:
    return Context("req-test", is_admin=True, deadline=Deadline.after(20, SYSTEM_CLOCK))


def volume(cloud: Federation, project: str = "admin-project", **fields: Any) -> str:
    return cloud.volumes.create(ctx(), NewVolume(project, fields.pop("size_gib", 1), **fields)).id


def status(cloud: Federation, volume_id: str) -> str:
    return cloud.volumes.get(ctx(), volume_id).status


def attach(cloud: Federation, uuid: str, volume_id: str, version: str = LATEST, **fields: Any) -> Any:
    body = {"volumeAttachment": {"volumeId": volume_id, **fields}}
    return cloud.admin.post(f"/servers/{uuid}/os-volume_attachments", body, version=version)


def detach(cloud: Federation, uuid: str, volume_id: str) -> Any:
    return cloud.admin.delete(f"/servers/{uuid}/os-volume_attachments/{volume_id}", version=LATEST)


def attached(cloud: Federation, uuid: str, version: str = LATEST) -> list[dict[str, Any]]:
    answer = cloud.admin.get(f"/servers/{uuid}/os-volume_attachments", version=version)
    assert answer.status == 200, answer.raw
    found: list[dict[str, Any]] = answer.json["volumeAttachments"]
    return found


def on_hypervisors(cloud: Federation, uuid: str) -> dict[str, list[str]]:
    """Host → ids of the volumes that the guest has there."""
    found = {}
    for fleet in cloud.fleets.values():
        for host, agent in fleet.agents.items():
            if any(guest.uuid == uuid for guest in agent.driver.guests()):
                found[host] = sorted(agent.driver.volumes(uuid))  # type: ignore[attr-defined]
    return found


def test_a_volume_is_attached_and_detached(cloud: Federation) -> None:
    uuid, held = cloud.boot(), volume(cloud)
    host = cloud.show(uuid)["OS-EXT-SRV-ATTR:host"]

    answer = attach(cloud, uuid, held, tag="data", delete_on_termination=True)

    assert answer.status == 200, answer.raw
    assert answer.json["volumeAttachment"] == {
        "id": held, "volumeId": held, "serverId": uuid, "device": "/dev/vdb", "tag": "data",
        "delete_on_termination": True,
    }  # fmt: skip
    cloud.until(lambda: status(cloud, held) == "in-use")
    assert on_hypervisors(cloud, uuid) == {host: [held]}
    (link,) = cloud.volumes.get(ctx(), held).attachments
    assert (link.server_id, link.host, link.device) == (uuid, host, "/dev/vdb")
    (shown,) = attached(cloud, uuid)
    assert shown["attachment_id"] == link.attachment_id
    assert cloud.show(uuid)["os-extended-volumes:volumes_attached"] == [{"id": held, "delete_on_termination": True}]
    assert cloud.show(uuid, version="2.1")["os-extended-volumes:volumes_attached"] == [{"id": held}]
    assert attach(cloud, uuid, held).status == 400

    assert detach(cloud, uuid, held).status == 202
    cloud.until(lambda: not attached(cloud, uuid))
    assert status(cloud, held) == "available"
    assert on_hypervisors(cloud, uuid) == {host: []}
    assert detach(cloud, uuid, held).status == 404
    assert cloud.show(uuid)["status"] == "ACTIVE"


def test_a_deleted_server_lets_go_of_its_volumes(cloud: Federation) -> None:
    uuid, kept, lost = cloud.boot(), volume(cloud), volume(cloud)
    assert attach(cloud, uuid, kept).status == 200
    assert attach(cloud, uuid, lost, delete_on_termination=True).status == 200
    cloud.until(lambda: [status(cloud, each) for each in (kept, lost)] == ["in-use", "in-use"])
    assert [each["device"] for each in attached(cloud, uuid)] == ["/dev/vdb", "/dev/vdc"]

    assert cloud.admin.delete(f"/servers/{uuid}").status == 204
    cloud.until(lambda: cloud.gone(uuid))
    assert status(cloud, kept) == "available"
    assert lost not in {
        each.id for each in cloud.volumes.all(Context("req", project_id="admin-project", deadline=ctx().deadline))
    }


def test_what_cannot_be_attached_is_left_as_it_is(cloud: Federation) -> None:
    uuid, other, held = cloud.boot(), cloud.boot(), volume(cloud)
    assert attach(cloud, uuid, "5d1c5a2a-0000-4000-8000-000000000000").status == 404
    assert attach(cloud, uuid, held).status == 200
    cloud.until(lambda: status(cloud, held) == "in-use")
    assert attach(cloud, other, held).status == 400
    foreign = volume(cloud, "another-project")
    owner = cloud.user("volume-owner", "volume-project")
    mine = cloud.boot(owner)
    body = {"volumeAttachment": {"volumeId": foreign}}
    assert owner.post(f"/servers/{mine}/os-volume_attachments", body).status == 404
    assert owner.get(f"/servers/{uuid}/os-volume_attachments").status == 404
    assert status(cloud, foreign) == "available"


def test_a_move_takes_the_volumes_along(cloud: Federation) -> None:
    uuid, held = cloud.boot(cell="cell1"), volume(cloud)
    assert attach(cloud, uuid, held).status == 200
    cloud.until(lambda: status(cloud, held) == "in-use")

    assert cloud.act(uuid, "os-migrateLive", {"host": "cell1-host2", "block_migration": "auto"}).status == 202
    assert cloud.settled(uuid)["OS-EXT-SRV-ATTR:host"] == "cell1-host2"
    cloud.until(lambda: [each.host for each in cloud.volumes.get(ctx(), held).attachments] == ["cell1-host2"])
    assert on_hypervisors(cloud, uuid) == {"cell1-host2": [held]}
    (link,) = cloud.volumes.get(ctx(), held).attachments
    assert attached(cloud, uuid)[0]["attachment_id"] == link.attachment_id
    assert status(cloud, held) == "in-use"


def test_shelved_servers_keep_their_volumes(cloud: Federation) -> None:
    uuid, held, late = cloud.boot(), volume(cloud), volume(cloud)
    assert attach(cloud, uuid, held).status == 200
    cloud.until(lambda: status(cloud, held) == "in-use")
    assert cloud.act(uuid, "shelve").status == 202
    cloud.until(lambda: cloud.show(uuid)["status"] == "SHELVED_OFFLOADED")
    assert status(cloud, held) == "reserved"

    gone = volume(cloud)
    for each in (late, gone):
        assert attach(cloud, uuid, each).status == 200
        assert status(cloud, each) == "in-use"
        assert [(link.server_id, link.host) for link in cloud.volumes.get(ctx(), each).attachments] == [(uuid, None)]
    assert cloud.admin.delete(f"/servers/{uuid}/os-volume_attachments/{gone}", version="2.96").status == 202
    assert status(cloud, gone) == "available"
    assert cloud.act(uuid, "unshelve", None).status == 202
    cloud.until(lambda: cloud.show(uuid)["status"] == "ACTIVE")
    cloud.until(lambda: [status(cloud, each) for each in (held, late)] == ["in-use", "in-use"])
    ((host, there),) = on_hypervisors(cloud, uuid).items()
    assert there == sorted([held, late])
    for each in there:
        assert [link.host for link in cloud.volumes.get(ctx(), each).attachments] == [host]
    assert cloud.admin.delete(f"/servers/{uuid}").status == 204
    cloud.until(lambda: cloud.gone(uuid))
    assert [status(cloud, each) for each in (held, late)] == ["available", "available"]


def test_a_volume_is_swapped_and_its_end_changed(cloud: Federation) -> None:
    uuid, old, new = cloud.boot(), volume(cloud), volume(cloud, size_gib=2)
    assert attach(cloud, uuid, old).status == 200
    cloud.until(lambda: status(cloud, old) == "in-use")
    path = f"/servers/{uuid}/os-volume_attachments"

    same = {"volumeAttachment": {"volumeId": old, "delete_on_termination": True}}
    assert cloud.admin.put(f"{path}/{old}", same, version="2.85").status == 202
    assert attached(cloud, uuid)[0]["delete_on_termination"] is True
    other = {"volumeAttachment": {"volumeId": new}}
    assert cloud.admin.put(f"{path}/{old}", other, version="2.1").status == 202
    cloud.until(lambda: [status(cloud, each) for each in (old, new)] == ["available", "in-use"])
    cloud.until(lambda: [each["volumeId"] for each in attached(cloud, uuid)] == [new])
    assert list(on_hypervisors(cloud, uuid).values()) == [[new]]


def test_a_volume_of_a_server_that_was_resized_while_it_was_off_is_not_swapped(cloud: Federation) -> None:
    uuid, old, new = cloud.boot(), volume(cloud), volume(cloud)
    assert attach(cloud, uuid, old).status == 200
    cloud.until(lambda: status(cloud, old) == "in-use")
    assert cloud.act(uuid, "os-stop").status == 202
    cloud.until(lambda: cloud.show(uuid)["status"] == "SHUTOFF")
    assert cloud.act(uuid, "migrate").status == 202
    cloud.until(lambda: cloud.show(uuid)["status"] == "VERIFY_RESIZE")
    other = {"volumeAttachment": {"volumeId": new}}
    answer = cloud.admin.put(f"/servers/{uuid}/os-volume_attachments/{old}", other)
    assert (answer.status, "power_state shutdown" in str(answer.json)) == (409, True)
    assert status(cloud, new) == "available"
    assert [each["volumeId"] for each in attached(cloud, uuid)] == [old]


def booted(cloud: Federation, *devices: dict[str, Any], **fields: Any) -> str:
    """A server made with these block devices, when it is ACTIVE or ERROR."""
    fields = {"imageRef": None, **fields}
    return cloud.boot(block_device_mapping_v2=list(devices), **fields)


def test_a_server_boots_from_a_volume_made_of_an_image(cloud: Federation) -> None:
    root = {
        "source_type": "image", "destination_type": "volume", "uuid": cloud.image_id, "boot_index": 0,
        "volume_size": 3, "delete_on_termination": True,
    }  # fmt: skip
    data = {"source_type": "blank", "destination_type": "volume", "volume_size": 2, "boot_index": -1, "tag": "data"}
    uuid = booted(cloud, root, data)

    shown = cloud.show(uuid)
    assert (shown["status"], shown["image"]) == ("ACTIVE", "")
    found = [cloud.volumes.get(ctx(), each["volumeId"]) for each in attached(cloud, uuid)]
    assert [(each.status, each.size_gib, each.bootable) for each in found] == [
        ("in-use", 3, True),
        ("in-use", 2, False),
    ]
    assert [each["device"] for each in attached(cloud, uuid)] == ["/dev/vda", "/dev/vdb"]
    assert cloud.allocations()[uuid].get("DISK_GB", 0) == 0
    assert detach(cloud, uuid, found[0].id).status == 403

    assert cloud.admin.delete(f"/servers/{uuid}").status == 204
    cloud.until(lambda: cloud.gone(uuid))
    assert status(cloud, found[1].id) == "available"
    assert found[0].id not in {each.id for each in cloud.volumes.all(mine())}


def mine() -> Context:
    return Context("req-test", project_id="admin-project", deadline=ctx().deadline)


def test_a_server_boots_from_a_volume_that_is_there(cloud: Federation) -> None:
    held = volume(cloud, image_id=cloud.image_id)
    uuid = booted(cloud, {"source_type": "volume", "destination_type": "volume", "uuid": held, "boot_index": 0})
    assert cloud.show(uuid)["status"] == "ACTIVE"
    assert status(cloud, held) == "in-use"
    legacy = volume(cloud, image_id=cloud.image_id)
    other = cloud.boot(imageRef=None, block_device_mapping=[{"volume_id": legacy, "device_name": "vda"}])
    assert cloud.show(other)["status"] == "ACTIVE"
    assert on_hypervisors(cloud, other) == {cloud.show(other)["OS-EXT-SRV-ATTR:host"]: [legacy]}


@pytest.mark.parametrize("source", ["volume", "snapshot", "blank", "image"])
def test_an_image_describes_a_server_that_boots_from_another_device(cloud: Federation, source: str) -> None:
    described = cloud.images.add(b"described", properties={"img_config_drive": "mandatory"})
    origin = volume(cloud, image_id=cloud.image_id)
    made_of: dict[str, dict[str, Any]] = {
        "volume": {"uuid": origin},
        "snapshot": {"uuid": cloud.volumes.take_snapshot(mine(), origin, "s", None, force=False).id},
        "blank": {"volume_size": 1},
        "image": {"uuid": cloud.image_id, "volume_size": 2},
    }
    root = {"source_type": source, "destination_type": "volume", "boot_index": 0, **made_of[source]}

    uuid = booted(cloud, root, imageRef=described)

    shown = cloud.show(uuid)
    assert (shown["status"], shown["image"], shown["config_drive"]) == ("ACTIVE", "", "True")
    (held,) = attached(cloud, uuid)
    assert held["device"] == "/dev/vda"
    made = cloud.volumes.get(ctx(), held["volumeId"])
    assert (made.status, made.snapshot_id or "") == ("in-use", made_of[source]["uuid"] if source == "snapshot" else "")
    assert (made.id == origin) == (source == "volume")
    assert on_hypervisors(cloud, uuid) == {shown["OS-EXT-SRV-ATTR:host"]: [made.id]}
    assert cloud.allocations()[uuid].get("DISK_GB", 0) == 0


def test_a_build_that_fails_lets_go_of_its_volumes(cloud: Federation) -> None:
    held = volume(cloud, image_id=cloud.image_id)
    uuid = cloud.boot(
        imageRef=None,
        block_device_mapping_v2=[
            {"source_type": "volume", "destination_type": "volume", "uuid": held, "boot_index": 0},
            {"source_type": "blank", "destination_type": "volume", "volume_size": 1, "volume_type": "no-such-type",
             "delete_on_termination": True},
        ],
    )  # fmt: skip
    assert cloud.show(uuid)["status"] == "ERROR"
    cloud.until(lambda: status(cloud, held) == "available")
    assert cloud.admin.delete(f"/servers/{uuid}").status == 204
    cloud.until(lambda: cloud.gone(uuid))


def test_mappings_that_cannot_be_are_refused(cloud: Federation) -> None:
    plain, image = volume(cloud), cloud.image_id
    missing = "5d1c5a2a-0000-4000-8000-000000000000"
    root = {"source_type": "image", "destination_type": "local", "uuid": image, "boot_index": 0}
    data = {"source_type": "volume", "uuid": plain}
    blank = {"source_type": "blank", "destination_type": "volume", "volume_size": 1}
    for fields in (
        {"imageRef": None},
        {"imageRef": None, "block_device_mapping_v2": [{"source_type": "volume", "uuid": plain, "boot_index": 0}]},
        {"imageRef": None, "block_device_mapping_v2": [{"source_type": "volume", "uuid": missing, "boot_index": 0}]},
        {"imageRef": None, "block_device_mapping_v2": [{"source_type": "snapshot", "uuid": missing, "boot_index": 0}]},
        {"block_device_mapping_v2": [root, {**root, "boot_index": 1}]},
        {"block_device_mapping_v2": [root, {"source_type": "volume", "uuid": plain, "boot_index": 0}]},
        {"block_device_mapping_v2": [root, {"source_type": "volume", "uuid": plain, "boot_index": 2}]},
        {"block_device_mapping_v2": [root, {"source_type": "volume", "destination_type": "local", "uuid": plain}]},
        {"block_device_mapping_v2": [root, {"source_type": "blank", "destination_type": "volume"}]},
        {"block_device_mapping_v2": [root, {"source_type": "blank", "guest_format": "swap", "volume_size": 64}]},
        {"block_device_mapping_v2": [root, {"source_type": "blank", "volume_size": 64}]},
        {"block_device_mapping_v2": [root, {"source_type": "volume", "uuid": plain}], "min_count": 2},
        {"block_device_mapping_v2": [root], "block_device_mapping": [{"volume_id": plain, "device_name": "vdb"}]},
        {"block_device_mapping_v2": [data]},
        {"block_device_mapping_v2": [{**data, "boot_index": -1}]},
        {"block_device_mapping_v2": [{"source_type": "blank", "destination_type": "local", "guest_format": "swap"}]},
        {"block_device_mapping_v2": [root, data, data]},
        {"block_device_mapping_v2": [root, {**data, "device_name": "vdc"}, {**data, "device_name": "vdd"}]},
        {"block_device_mapping": [{"volume_id": plain, "device_name": name} for name in ("vdb", "vdc")]},
        {"block_device_mapping_v2": [root, {**data, "device_name": "/dev/vdb"}, {**blank, "device_name": "vdb"}]},
        {"block_device_mapping_v2": [root, {**data, "device_name": "/dev/vda"}]},
        {"block_device_mapping": [{"volume_id": plain, "device_name": "vda"}]},
        {"block_device_mapping_v2": [{**blank, "boot_index": 0}], "imageRef": missing},
        {"block_device_mapping_v2": [{**blank, "boot_index": 0}, {**blank, "boot_index": 0}]},
        {"block_device_mapping_v2": [{**blank, "boot_index": 0, "destination_type": "local"}]},
        {
            "block_device_mapping_v2": [{**blank, "boot_index": 0}],
            "imageRef": cloud.images.add(b"large", min_disk_gib=2),
        },
    ):
        answer = cloud.post_server(**fields)
        assert answer.status == 400, (fields, answer.raw)
    assert status(cloud, plain) == "available"


def test_the_proxies_speak_of_the_projects_volumes(cloud: Federation) -> None:
    owner = cloud.user("proxy-owner", "proxy-project")
    body = {"volume": {"size": 1, "display_name": "v", "display_description": "words", "metadata": {"a": "b"}}}
    made = owner.post("/os-volumes", body, version="2.1")
    assert made.status == 200, made.raw
    held = made.json["volume"]["id"]
    assert (made.json["volume"]["displayName"], made.json["volume"]["attachments"]) == ("v", [{}])
    assert [each["id"] for each in owner.get("/os-volumes", version="2.35").json["volumes"]] == [held]
    assert owner.get("/os-volumes", version="2.36").status == 404
    assert owner.get(f"/os-volumes/{held}", version="2.1").json["volume"]["metadata"] == {"a": "b"}
    assert cloud.user("other", "other-project").get(f"/os-volumes/{held}", version="2.1").status == 404

    taken = owner.post("/os-snapshots", {"snapshot": {"volume_id": held, "force": True}}, version="2.1")
    assert taken.status == 200, taken.raw
    one = taken.json["snapshot"]["id"]
    assert [each["volumeId"] for each in owner.get("/os-snapshots/detail", version="2.1").json["snapshots"]] == [held]
    assert owner.delete(f"/os-snapshots/{one}", version="2.1").status == 202
    assert owner.get(f"/os-snapshots/{one}", version="2.1").status == 404
    assert owner.delete(f"/os-volumes/{held}", version="2.1").status == 202
    assert owner.delete(f"/os-volumes/{held}", version="2.1").status == 404


def test_servers_are_there_under_their_old_name_too(cloud: Federation) -> None:
    uuid = cloud.boot()
    assert cloud.admin.get(f"/os-volumes_boot/{uuid}", version="2.102").json["server"]["id"] == uuid
    assert cloud.admin.get(f"/os-volumes_boot/{uuid}", version="2.103").status == 404
    assert cloud.admin.post(f"/os-volumes_boot/{uuid}/action", {"os-stop": None}, version="2.1").status == 202
    assert cloud.settled(uuid)["status"] == "SHUTOFF"


def test_a_guest_sees_that_its_volume_has_grown(cloud: Federation) -> None:
    uuid, held = cloud.boot(), volume(cloud)
    assert attach(cloud, uuid, held).status == 200
    cloud.until(lambda: status(cloud, held) == "in-use")
    grown = requests.post(
        f"{cloud.storage.url}/v3/volumes/{held}/action",
        json={"os-extend": {"new_size": 4}}, headers={"X-Auth-Token": "admin:admin-project"}, timeout=10,
    )  # fmt: skip
    assert grown.status_code == 202, grown.text
    event = {"events": [{"name": "volume-extended", "server_uuid": uuid, "tag": held}]}
    answer = cloud.admin.post("/os-server-external-events", event, version="2.51")
    assert answer.status == 200, answer.raw

    def sizes() -> list[int]:
        agents = (agent for fleet in cloud.fleets.values() for agent in fleet.agents.values())
        here = (each for each in agents if any(guest.uuid == uuid for guest in each.driver.guests()))
        return [size for agent in here for size in agent.driver.volumes(uuid).values()]  # type: ignore[attr-defined]

    cloud.until(lambda: sizes() == [4])
    assert cloud.show(uuid)["status"] == "ACTIVE"


def test_a_volume_backed_server_is_shelved_without_an_image(cloud: Federation) -> None:
    root = {"source_type": "image", "destination_type": "volume", "uuid": cloud.image_id, "boot_index": 0,
            "volume_size": 1, "delete_on_termination": True}  # fmt: skip
    uuid, before = booted(cloud, root), len(cloud.images.uploads)
    (held,) = (each["volumeId"] for each in attached(cloud, uuid))
    assert cloud.act(uuid, "shelve").status == 202
    cloud.until(lambda: cloud.show(uuid)["status"] == "SHELVED_OFFLOADED")
    assert len(cloud.images.uploads) == before
    assert status(cloud, held) == "reserved"
    assert cloud.act(uuid, "unshelve", None).status == 202
    cloud.until(lambda: cloud.show(uuid)["status"] == "ACTIVE")
    assert list(on_hypervisors(cloud, uuid).values()) == [[held]]


def rebuilt(cloud: Federation, uuid: str, image: str, version: str) -> Any:
    return cloud.admin.post(f"/servers/{uuid}/action", {"rebuild": {"imageRef": image}}, version=version)


def content(cloud: Federation, volume_id: str) -> bytes:
    path = cloud.directory / "volume" / "volumes" / f"volume-{volume_id}"
    with path.open("rb") as file:
        return file.read(32).rstrip(b"\0")


def test_a_volume_backed_server_is_rebuilt_from_another_image(cloud: Federation) -> None:
    root = {"source_type": "image", "destination_type": "volume", "uuid": cloud.image_id, "boot_index": 0,
            "volume_size": 1, "delete_on_termination": True}  # fmt: skip
    uuid = booted(cloud, root)
    (held,) = (each["volumeId"] for each in attached(cloud, uuid))
    host, before = cloud.show(uuid)["OS-EXT-SRV-ATTR:host"], attached(cloud, uuid)
    other = cloud.images.add(b"another", properties={"hw_machine_type": "q35"})
    large, huge = cloud.images.add(b"large", min_disk_gib=2), cloud.images.add(b"huge", min_ram_mib=999_999)

    refused = rebuilt(cloud, uuid, other, "2.92")
    assert refused.status == 400
    words = "Unable to rebuild with a different image for a volume-backed server."
    assert refused.json["badRequest"]["message"] == words
    assert [rebuilt(cloud, uuid, each, "2.93").status for each in (large, huge)] == [400, 400]
    assert rebuilt(cloud, uuid, cloud.image_id, "2.92").status == 202
    assert cloud.settled(uuid)["status"] == "ACTIVE"
    assert (attached(cloud, uuid), content(cloud, held)) == (before, b"raw image")

    assert rebuilt(cloud, uuid, other, "2.93").status == 202
    shown = cloud.settled(uuid)
    assert (shown["status"], shown["image"], shown.get("fault")) == ("ACTIVE", "", None)
    (link,) = cloud.volumes.get(ctx(), held).attachments
    assert (link.host, link.attachment_id) == (host, attached(cloud, uuid)[0]["attachment_id"])
    assert (status(cloud, held), content(cloud, held)) == ("in-use", b"another")
    assert on_hypervisors(cloud, uuid) == {host: [held]}
    assert cloud.volumes.get(ctx(), held).image["image_id"] == other

    lost = cloud.images.add(b"lost")
    cloud.images.contents[lost] = b"something else"
    assert rebuilt(cloud, uuid, lost, "2.94").status == 202
    failed = cloud.settled(uuid)
    assert (failed["status"], held in failed["fault"]["message"]) == ("ERROR", True)
    assert rebuilt(cloud, uuid, other, "2.94").status == 202
    assert cloud.settled(uuid)["status"] == "ACTIVE"
    assert content(cloud, held) == b"another"


def test_a_volume_that_cannot_be_attached_is_free_again(cloud: Federation) -> None:
    uuid, held = cloud.boot(cell="cell1"), volume(cloud)
    faults = cloud.directory / "cell1-host1" / "faults.json"
    faults.write_text(json.dumps({f"attach_volume:{uuid}": {"times": 1, "reason": "no room on the bus"}}))
    try:
        assert attach(cloud, uuid, held).status == 200
        cloud.until(lambda: not attached(cloud, uuid))
        cloud.until(lambda: status(cloud, held) == "available")
    finally:
        faults.unlink()
    assert cloud.show(uuid)["status"] == "ACTIVE"
    (newest, *_) = cloud.admin.get(f"/servers/{uuid}/os-instance-actions", version=LATEST).json["instanceActions"]
    assert (newest["action"], newest["message"]) == ("attach_volume", "Error")
    assert attach(cloud, uuid, held).status == 200
    cloud.until(lambda: status(cloud, held) == "in-use")


def test_a_connection_is_refreshed_while_a_server_is_stopped(cloud: Federation) -> None:
    uuid, held = cloud.boot(), volume(cloud)
    assert attach(cloud, uuid, held).status == 200
    cloud.until(lambda: status(cloud, held) == "in-use")
    host, before = cloud.show(uuid)["OS-EXT-SRV-ATTR:host"], attached(cloud, uuid)[0]["attachment_id"]
    connector = {"host": host, "ip": "10.0.0.9"}
    with pytest.raises(NotStopped):
        refreshed(cloud.cloud, cloud.volumes, uuid, held, connector)
    assert cloud.act(uuid, "os-stop").status == 202
    cloud.until(lambda: cloud.settled(uuid)["status"] == "SHUTOFF")
    with pytest.raises(Invalid):
        refreshed(cloud.cloud, cloud.volumes, uuid, held, {"host": "another"})
    device = refreshed(cloud.cloud, cloud.volumes, uuid, held, connector)
    assert device.attachment_id == attached(cloud, uuid)[0]["attachment_id"] != before
    (link,) = cloud.volumes.get(ctx(), held).attachments
    assert (link.attachment_id, link.host, status(cloud, held)) == (device.attachment_id, host, "in-use")
    assert cloud.show(uuid)["locked"] is False
    actions = cloud.admin.get(f"/servers/{uuid}/os-instance-actions").json["instanceActions"]
    assert "refresh_volume_attachment" in {each["action"] for each in actions}
    assert cloud.act(uuid, "os-start").status == 202
    cloud.until(lambda: cloud.settled(uuid)["status"] == "ACTIVE")
    assert on_hypervisors(cloud, uuid) == {host: [held]}


def test_a_refresh_that_fails_in_the_middle_goes_on_when_it_is_run_again(
    cloud: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid, held = cloud.boot(), volume(cloud)
    assert attach(cloud, uuid, held).status == 200
    cloud.until(lambda: status(cloud, held) == "in-use")
    assert cloud.act(uuid, "os-stop").status == 202
    cloud.until(lambda: cloud.settled(uuid)["status"] == "SHUTOFF")
    connector = {"host": cloud.show(uuid)["OS-EXT-SRV-ATTR:host"]}

    def fails(*_arguments: object) -> None:
        raise PeerUnavailable(service="volume", reason="it answered 503")

    for name in ("reserve", "leave", "connect", "complete"):
        with monkeypatch.context() as patched:
            patched.setattr(cloud.volumes, name, fails)
            with pytest.raises(PeerUnavailable):
                refreshed(cloud.cloud, cloud.volumes, uuid, held, connector)
        assert cloud.show(uuid)["locked"] is False
        assert status(cloud, held) != "available"
    refreshed(cloud.cloud, cloud.volumes, uuid, held, connector)
    (link,) = cloud.volumes.get(ctx(), held).attachments
    assert link.attachment_id == attached(cloud, uuid)[0]["attachment_id"]
    assert status(cloud, held) == "in-use"
