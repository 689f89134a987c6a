"""Servers that run from another disk for a while."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest

from cell_service.db import schema
from tests.federation.cloud import Federation


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    made = Federation(tmp_path_factory.mktemp("cloud"), move_seconds=0, live_seconds=0)
    yield made
    made.close()


def console(cloud: Federation, uuid: str) -> str:
    answer = cloud.act(uuid, "os-getConsoleOutput", {})
    assert answer.status == 200, answer.raw
    return str(answer.json["output"])


def test_a_server_is_rescued_and_comes_back(quick: Federation) -> None:
    uuid = quick.boot()
    answer = quick.act(uuid, "rescue", {"adminPass": "s3cret-word"})
    assert (answer.status, answer.json) == (200, {"adminPass": "s3cret-word"})
    shown = quick.settled(uuid)
    assert (shown["status"], shown.get("fault")) == ("RESCUE", None)
    assert "Booting (rescue)" in console(quick, uuid)
    for action in ("os-stop", "pause", "suspend", "rescue"):
        assert quick.act(uuid, action).status == 409
    assert quick.act(uuid, "unrescue").status == 202
    assert quick.settled(uuid)["status"] == "ACTIVE"
    assert quick.act(uuid, "unrescue").status == 409
    names = [one["action"] for one in quick.admin.get(f"/servers/{uuid}/os-instance-actions").json["instanceActions"]]
    assert names[:2] == ["unrescue", "rescue"]


def test_no_password_stays_in_the_cell(quick: Federation) -> None:
    uuid = quick.boot(cell="cell1")
    assert quick.act(uuid, "rescue", {"adminPass": "s3cret-word"}).status == 200
    quick.settled(uuid)
    database = quick.cell_database("cell1")
    with database.connect() as tx:
        rows = tx.execute(schema.operations.select().where(schema.operations.c.instance_uuid == uuid)).all()
    database.dispose()
    assert rows
    assert "s3cret-word" not in str(rows)


def test_the_rescue_image_decides_where_the_disks_are(quick: Federation) -> None:
    uuid = quick.boot()
    assert quick.act(uuid, "rescue", {"rescue_image_ref": str(uuid4())}).status == 400
    stable = quick.images.add(b"rescue", properties={"hw_rescue_bus": "usb"})
    answer = quick.act(uuid, "rescue", {"rescue_image_ref": stable})
    assert answer.status == 200
    assert answer.json["adminPass"]
    assert quick.settled(uuid)["status"] == "RESCUE"
    assert "Booting (rescue, stable devices)" in console(quick, uuid)
    assert quick.admin.delete(f"/servers/{uuid}").status == 204
    quick.until(lambda: quick.gone(uuid) and not quick.unfinished())


def test_a_rescue_that_fails_leaves_the_server_running(quick: Federation) -> None:
    uuid = quick.boot()
    quick.images.down = True
    try:
        assert quick.act(uuid, "rescue").status == 200
        shown = quick.settled(uuid)
    finally:
        quick.images.down = False
    assert shown["status"] == "ACTIVE"
    assert shown["OS-EXT-STS:power_state"] == 1
    assert quick.act(uuid, "rescue").status == 200
    assert quick.settled(uuid)["status"] == "RESCUE"


def test_who_may_rescue(quick: Federation) -> None:
    user, stranger = quick.user("u", uuid4().hex), quick.user("v", uuid4().hex)
    uuid = quick.boot(user)
    assert quick.act(uuid, "rescue", by=stranger).status == 404
    assert quick.act(uuid, "lock", by=user).status == 202
    assert quick.act(uuid, "rescue", by=user).status == 409
    assert quick.act(uuid, "unlock", by=user).status == 202
    assert quick.act(uuid, "rescue", {"rescue_image_ref": "no uuid"}, by=user).status == 400
    assert quick.act(uuid, "unrescue", by=user).status == 409


def test_a_server_on_a_volume_is_rescued_from_an_image_for_stable_devices(quick: Federation) -> None:
    root = {"source_type": "image", "destination_type": "volume", "uuid": quick.image_id, "boot_index": 0,
            "volume_size": 1, "delete_on_termination": True}  # fmt: skip
    uuid = quick.boot(imageRef=None, block_device_mapping_v2=[root])
    (held,) = quick.show(uuid)["os-extended-volumes:volumes_attached"]
    stable = quick.images.add(b"raw image", properties={"hw_rescue_device": "disk", "hw_rescue_bus": "virtio"})
    path, wanted = f"/servers/{uuid}/action", {"rescue": {"rescue_image_ref": stable}}
    assert quick.admin.post(path, wanted, version="2.86").status == 400
    assert quick.admin.post(path, {"rescue": None}, version="2.87").status == 400
    assert quick.admin.post(path, {"rescue": {"rescue_image_ref": quick.image_id}}, version="2.87").status == 400
    assert quick.admin.post(path, wanted, version="2.87").status == 200
    shown = quick.settled(uuid)
    assert (shown["status"], shown["os-extended-volumes:volumes_attached"]) == ("RESCUE", [held])
    assert "Booting (rescue, stable devices)" in console(quick, uuid)
    assert quick.act(uuid, "unrescue").status == 202
    assert quick.settled(uuid)["status"] == "ACTIVE"
