"""Images that are made of servers, and the newest of their backups."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from api_cell.edge.auth import NoAuth
from cell_service.context import SYSTEM_CLOCK, Context, Deadline
from cell_service.peers.glance.images import open_images
from cell_service.peers.image import Image, Images, NewImage
from cell_service.peers.settings import GlanceSettings
from tests.federation.cloud import Federation
from tests.suites.peers import WITH_AGENT
from tools.companions.image.service import make_image


def own() -> Context:
    return Context("req-test", is_admin=True, project_id="admin-project", deadline=Deadline.after(60, SYSTEM_CLOCK))


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    made = Federation(tmp_path_factory.mktemp("cloud"), move_seconds=0, live_seconds=0)
    yield made
    made.close()


def of_server(cloud: Federation, uuid: str) -> list[Image]:
    return [image for image in cloud.images.records.values() if image.properties.get("instance_uuid") == uuid]


def backup(cloud: Federation, uuid: str, kind: str, rotation: int) -> str:
    content = {"name": f"{kind} copy", "backup_type": kind, "rotation": rotation}
    answer = cloud.act(uuid, "createBackup", content)
    assert answer.status == 202, answer.raw
    cloud.settled(uuid)
    return str(answer.json["image_id"])


@pytest.mark.parametrize("before", [None, "os-stop", "pause", "suspend"])
def test_an_image_of_a_server_starts_others(quick: Federation, before: str | None) -> None:
    uuid = quick.boot(name="origin")
    if before is not None:
        assert quick.act(uuid, before).status == 202
    status = quick.settled(uuid)["status"]
    answer = quick.act(uuid, "createImage", {"name": "copy", "metadata": {"purpose": "test"}})
    assert answer.status == 202, answer.raw
    image_id = answer.json["image_id"]
    assert image_id in quick.images.records
    shown = quick.settled(uuid)
    assert (shown["status"], shown.get("fault")) == (status, None)
    image = quick.images.records[image_id]
    assert (image.status, image.name, image.owner) == ("active", "copy", "admin-project")
    assert image.properties["purpose"] == "test"
    assert image.properties["image_type"] == "snapshot"
    assert image.properties["base_image_ref"] == quick.image_id
    other = quick.boot(imageRef=image_id)
    assert quick.show(other)["status"] == "ACTIVE"


def test_an_images_properties_are_those_that_were_requested(quick: Federation) -> None:
    wanted = {"image_type": "golden", "base_image_ref": "mine", "backup_type": "mine"}
    uuid = quick.boot()
    made = quick.act(uuid, "createImage", {"name": "copy", "metadata": wanted}).json["image_id"]
    quick.settled(uuid)
    weekly = {"name": "backup", "backup_type": "weekly", "rotation": 1, "metadata": {"backup_type": "mine"}}
    backup = quick.act(uuid, "createBackup", weekly).json["image_id"]
    quick.settled(uuid)

    copied = quick.images.records[made].properties
    assert {name: copied[name] for name in wanted} == wanted
    assert copied["instance_uuid"] == uuid
    assert quick.images.records[backup].properties["backup_type"] == "weekly"


def test_the_image_is_named_in_the_header_before_2_45(quick: Federation) -> None:
    uuid = quick.boot()
    answer = quick.admin.post(f"/servers/{uuid}/action", {"createImage": {"name": "old"}}, version="2.44")
    assert (answer.status, answer.raw) == (202, b"")
    assert answer.headers["Location"].rsplit("/", 1)[1] in quick.images.records
    quick.settled(uuid)


def test_an_image_that_cannot_be_uploaded_goes(quick: Federation) -> None:
    uuid = quick.boot(cell="cell1")
    faults = {"snapshot": {"times": 1, "reason": "the disk is busy"}}
    (quick.directory / "cell1-host1" / "faults.json").write_text(json.dumps(faults))
    answer = quick.act(uuid, "createImage", {"name": "never"})
    assert answer.status == 202
    shown = quick.settled(uuid)
    assert (shown["status"], shown["OS-EXT-STS:power_state"]) == ("ACTIVE", 1)
    assert answer.json["image_id"] not in quick.images.records
    last = quick.admin.get(f"/servers/{uuid}/os-instance-actions").json["instanceActions"][0]
    assert (last["action"], last["message"]) == ("createImage", "Error")


def of_agent(*, required: bool) -> dict[str, str]:
    return {**WITH_AGENT, **({"os_require_quiesce": "yes"} if required else {})}


def demand_frozen_and_thawed(cloud: Federation, uuid: str) -> None:
    said = cloud.act(uuid, "os-getConsoleOutput", {}).json["output"]
    assert 0 < said.index("file systems frozen") < said.index("file systems thawed")


@pytest.mark.parametrize("required", [False, True])
def test_a_guest_with_an_agent_is_frozen_while_it_is_copied(quick: Federation, required: bool) -> None:
    uuid = quick.boot(imageRef=quick.images.add(properties=of_agent(required=required)))
    assert backup(quick, uuid, "daily", 1) in quick.images.records
    demand_frozen_and_thawed(quick, uuid)


@pytest.mark.parametrize("required", [False, True])
def test_an_agent_that_fails_is_a_refused_copy_only_where_it_is_required(quick: Federation, required: bool) -> None:
    uuid = quick.boot(cell="cell1", imageRef=quick.images.add(properties=of_agent(required=required)))
    faults = {"quiesce": {"times": 1, "reason": "The guest agent did not answer in time."}}
    (quick.directory / "cell1-host1" / "faults.json").write_text(json.dumps(faults))
    image_id = backup(quick, uuid, "daily", 1)
    assert (image_id in quick.images.records) is not required
    shown = quick.show(uuid)
    assert (shown["status"], shown["OS-EXT-STS:task_state"]) == ("ACTIVE", None)
    last = quick.admin.get(f"/servers/{uuid}/os-instance-actions").json["instanceActions"][0]
    assert (last["action"], last["message"]) == ("createBackup", "Error" if required else None)
    event = quick.admin.get(f"/servers/{uuid}/os-instance-actions/{last['request_id']}").json["instanceAction"]
    assert ("did not answer" in str(event["events"])) is required


@pytest.mark.parametrize("action", ["createImage", "createBackup"])
def test_a_copy_that_has_to_be_quiesced_is_refused_without_an_agent(quick: Federation, action: str) -> None:
    content = {"name": "x"} if action == "createImage" else {"name": "x", "backup_type": "d", "rotation": 1}
    bare = quick.boot(imageRef=quick.images.add(properties={"os_require_quiesce": "yes"}))
    paused = quick.boot(imageRef=quick.images.add(properties=of_agent(required=True)))
    assert quick.act(paused, "pause").status == 202
    quick.settled(paused)
    before = set(quick.images.records)
    for uuid, why in ((bare, "the QEMU guest agent is not enabled"), (paused, "it is paused")):
        answer = quick.act(uuid, action, content)
        assert answer.status == 409
        assert why in answer.json["conflictingRequest"]["message"]
    assert set(quick.images.records) == before
    assert quick.act(bare, "os-stop").status == 202
    quick.settled(bare)
    assert quick.act(bare, action, content).status == 202
    assert quick.settled(bare)["status"] == "SHUTOFF"


def test_only_the_newest_backups_stay(quick: Federation) -> None:
    uuid, other = quick.boot(), quick.boot()
    kept = backup(quick, other, "daily", 1)
    weekly = backup(quick, uuid, "weekly", 1)
    made = [backup(quick, uuid, "daily", 2) for _ in range(3)]
    assert {image.id for image in of_server(quick, uuid)} == {weekly, *made[1:]}
    assert backup(quick, uuid, "daily", 0) not in quick.images.records
    assert {image.id for image in of_server(quick, uuid)} == {weekly}
    assert [image.id for image in of_server(quick, other)] == [kept]


def test_what_is_refused_leaves_no_image(quick: Federation) -> None:
    user = quick.user("u", uuid4().hex)
    uuid = quick.boot(user)
    before = set(quick.images.records)
    assert quick.act(uuid, "createImage", {"name": "x", "more": 1}, by=user).status == 400
    assert quick.act(uuid, "createBackup", {"name": "x", "backup_type": "d", "rotation": -1}, by=user).status == 400
    assert quick.act(uuid, "createImage", {"name": "x"}, by=quick.user("v", uuid4().hex)).status == 404
    quick.act(uuid, "lock", by=user)
    assert quick.act(uuid, "createImage", {"name": "x"}, by=user).status == 409
    quick.act(uuid, "unlock", by=user)
    many = {f"k{number}": "v" for number in range(200)}
    content = {"createImage": {"name": "x", "metadata": many}}
    assert user.post(f"/servers/{uuid}/action", content, version="2.38").status == 403
    assert quick.act(uuid, "rescue", by=user).status == 200
    quick.settled(uuid, user)
    assert quick.act(uuid, "createImage", {"name": "x"}, by=user).status == 409
    assert set(quick.images.records) == before


def test_an_image_of_a_server_on_a_volume_names_snapshots(quick: Federation) -> None:
    image_id = quick.images.add(properties=WITH_AGENT)
    root = {"source_type": "image", "destination_type": "volume", "uuid": image_id, "boot_index": 0,
            "volume_size": 2, "delete_on_termination": True}  # fmt: skip
    body = {"flavor": {"id": "wide", "name": "wide", "vcpus": 1, "ram": 64, "disk": 5}}
    assert quick.admin.post("/flavors", body).status == 200
    uuid = quick.boot(imageRef=None, block_device_mapping_v2=[root], flavorRef="wide")
    (held,) = quick.show(uuid)["os-extended-volumes:volumes_attached"]
    answer = quick.act(uuid, "createImage", {"name": "whole", "metadata": {"a": "b"}})
    assert answer.status == 202, answer.raw
    assert quick.settled(uuid)["status"] == "ACTIVE"
    image = quick.images.records[answer.json["image_id"]]
    assert (image.status, image.size_bytes, image.min_disk_gib, image.properties["a"]) == ("active", 0, 0, "b")
    assert (image.properties["bdm_v2"], image.properties["root_device_name"]) == ("True", "/dev/vda")
    (entry,) = json.loads(image.properties["block_device_mapping"])
    assert (entry["source_type"], entry["boot_index"], entry["volume_size"]) == ("snapshot", 0, 2)
    ctx = Context("req-test", is_admin=True, deadline=Deadline.after(20, SYSTEM_CLOCK))
    assert quick.volumes.snapshot(ctx, entry["snapshot_id"]).volume_id == held["id"]
    demand_frozen_and_thawed(quick, uuid)
    backup = {"name": "b", "backup_type": "daily", "rotation": 1}
    assert quick.act(uuid, "createBackup", backup).status == 400

    copy = quick.boot(imageRef=image.id)
    shown = quick.show(copy)
    (made,) = shown["os-extended-volumes:volumes_attached"]
    assert (shown["status"], shown["image"], made["delete_on_termination"]) == ("ACTIVE", "", True)
    assert made["id"] != held["id"]
    volume = quick.volumes.get(ctx, made["id"])
    assert (volume.snapshot_id, volume.size_gib, volume.status) == (entry["snapshot_id"], 2, "in-use")


class Stored:
    """The images of the image companion, over HTTP; `add` is for the federation."""

    def __init__(self, images: Images, directory: Path) -> None:
        self._images, self._directory = images, directory

    def add(self) -> str:
        content, image_id = self._directory / "first", str(uuid4())
        content.write_bytes(b"raw image")
        self._images.upload(own(), NewImage(image_id, "first", "admin-project", "raw", visibility="public"), content)
        return image_id

    def __getattr__(self, name: str) -> Any:
        return getattr(self._images, name)


class OnImageService(Federation):
    """Images are in the image companion."""

    def first_images(self) -> Any:
        self.image_service = make_image(self.directory / "image", NoAuth())
        self.image_service.start(0)
        settings = GlanceSettings(auth_type="none", endpoint_override=self.image_service.url)
        return Stored(open_images(settings), self.directory)

    def close(self) -> None:
        super().close()
        self.image_service.drain(0)


def test_an_image_of_volumes_is_one_in_the_image_service(tmp_path: Path) -> None:
    cloud = OnImageService(tmp_path, cells=1, hosts=1)
    try:
        root = {"source_type": "image", "destination_type": "volume", "uuid": cloud.image_id, "boot_index": 0,
                "volume_size": 2}  # fmt: skip
        data = {"source_type": "blank", "destination_type": "volume", "volume_size": 1, "boot_index": -1}
        uuid = cloud.boot(imageRef=None, block_device_mapping_v2=[root, data])
        made = cloud.act(uuid, "createImage", {"name": "whole", "metadata": {"a": "b"}}).json["image_id"]
        cloud.settled(uuid)
        image = cloud.images.get(own(), made)
        mapping = json.loads(image.properties["block_device_mapping"])
        assert (image.status, image.size_bytes, image.properties["a"]) == ("active", 0, "b")
        assert (image.properties["bdm_v2"], image.properties["root_device_name"]) == ("True", "/dev/vda")
        assert [(each["boot_index"], each["volume_size"]) for each in mapping] == [(0, 2), (None, 1)]

        copy = cloud.show(cloud.boot(imageRef=made))
        volumes = [cloud.volumes.get(own(), each["id"]) for each in copy["os-extended-volumes:volumes_attached"]]
        assert (copy["status"], [each.status for each in volumes]) == ("ACTIVE", ["in-use", "in-use"])
        assert [each.snapshot_id for each in volumes] == [each["snapshot_id"] for each in mapping]
    finally:
        cloud.close()


BLANK = {"source_type": "blank", "destination_type": "volume", "volume_size": 1, "boot_index": -1}


@pytest.mark.parametrize(
    ("mapping", "fields", "sizes"),
    [
        ([BLANK], {"bdm_v2": "True"}, [1]),
        ([{**BLANK, "volume_size": "2"}, {**BLANK, "no_device": True}], {"bdm_v2": "true"}, [2]),
        ([{"virtual_name": "swap", "device_name": "vdb"}], {}, []),
        ([BLANK | {"boot_index": 1}, BLANK], {"bdm_v2": "True"}, [1, 1]),
    ],
)
def test_an_image_may_bring_devices(quick: Federation, mapping: Any, fields: dict[str, str], sizes: list[int]) -> None:
    properties = {"block_device_mapping": json.dumps(mapping), **fields}
    uuid = quick.boot(imageRef=quick.images.add(b"with devices", properties=properties))
    shown = quick.show(uuid)
    ctx = Context("req-test", is_admin=True, deadline=Deadline.after(20, SYSTEM_CLOCK))
    held = [quick.volumes.get(ctx, each["id"]) for each in shown["os-extended-volumes:volumes_attached"]]
    assert (shown["status"], [each.size_gib for each in held]) == ("ACTIVE", sizes)
    assert shown["image"]["id"]


@pytest.mark.parametrize(
    "mapping",
    ["{", "7", "[7]", '[{"source_type": "snapshot"}]', '[{"source_type": "blank", "volume_size": "x"}]',
     '[{"source_type": 7, "uuid": "a"}]', '[{"source_type": "blank", "destination_type": "volume", "volume_size": -1}]',
     '[{"source_type": "snapshot", "destination_type": "volume", "uuid": [1], "boot_index": 0}]',
     '[{"source_type": "volume", "uuid": "5d1c5a2a-0000-4000-8000-000000000000", "boot_index": 0}]',
     '[{"source_type": "blank", "delete_on_termination": 3}]', "[" * 5000],
)  # fmt: skip
def test_what_an_image_cannot_bring_is_refused(quick: Federation, mapping: str) -> None:
    image = quick.images.add(b"odd", properties={"block_device_mapping": mapping, "bdm_v2": "True"})
    answer = quick.post_server(imageRef=image)
    assert answer.status == 400, answer.raw
