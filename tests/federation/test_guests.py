"""What is done inside servers: passwords, crash dumps."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.federation.cloud import Federation
from tests.suites.peers import WITH_AGENT


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    made = Federation(tmp_path_factory.mktemp("cloud"), move_seconds=0, live_seconds=0)
    yield made
    made.close()


def console(cloud: Federation, uuid: str) -> str:
    return str(cloud.act(uuid, "os-getConsoleOutput", {}).json["output"])


def last_action(cloud: Federation, uuid: str) -> tuple[str, str | None]:
    last = cloud.admin.get(f"/servers/{uuid}/os-instance-actions").json["instanceActions"][0]
    return last["action"], last["message"]


def test_a_password_is_changed(quick: Federation) -> None:
    uuid = quick.boot(imageRef=quick.images.add(properties=WITH_AGENT))
    assert quick.act(uuid, "changePassword", {"adminPass": "another one"}).status == 202
    shown = quick.settled(uuid)
    assert (shown["status"], shown.get("fault")) == ("ACTIVE", None)
    assert "has a new password" in console(quick, uuid)
    assert "another one" not in console(quick, uuid)
    assert last_action(quick, uuid) == ("changePassword", None)
    assert quick.act(uuid, "os-stop").status == 202
    quick.settled(uuid)
    assert quick.act(uuid, "changePassword", {"adminPass": "x"}).status == 409
    assert quick.act(uuid, "changePassword", {}).status == 400


@pytest.mark.parametrize("value", [None, "no", "false", ""])
def test_a_server_without_guest_agent_keeps_its_password(quick: Federation, value: str | None) -> None:
    properties = {} if value is None else {"hw_qemu_guest_agent": value}
    uuid = quick.boot(imageRef=quick.images.add(properties=properties))
    answer = quick.act(uuid, "changePassword", {"adminPass": "another one"})
    assert answer.status == 409
    assert "QEMU guest agent is not enabled" in answer.json["conflictingRequest"]["message"]
    assert last_action(quick, uuid) == ("create", None)
    shown = quick.show(uuid)
    assert (shown["status"], shown["OS-EXT-STS:task_state"]) == ("ACTIVE", None)
    assert quick.unfinished() == []


def test_a_rebuild_with_an_image_with_agent_allows_changes_of_the_password(quick: Federation) -> None:
    uuid = quick.boot()
    with_agent = quick.images.add(properties=WITH_AGENT)
    assert quick.act(uuid, "rebuild", {"imageRef": with_agent}).status == 202
    quick.settled(uuid)
    assert quick.act(uuid, "changePassword", {"adminPass": "another one"}).status == 202
    assert quick.settled(uuid).get("fault") is None
    assert quick.act(uuid, "rebuild", {"imageRef": quick.image_id}).status == 202
    quick.settled(uuid)
    assert quick.act(uuid, "changePassword", {"adminPass": "another one"}).status == 409


def test_a_crash_dump_leaves_the_state_alone(quick: Federation) -> None:
    uuid = quick.boot()
    user = quick.user("u", uuid4().hex)
    assert quick.act(uuid, "trigger_crash_dump", by=user).status == 404
    assert quick.act(uuid, "trigger_crash_dump").status == 202
    quick.until(lambda: "writing a crash dump" in console(quick, uuid))
    shown = quick.show(uuid)
    assert (shown["status"], shown["OS-EXT-STS:task_state"]) == ("ACTIVE", None)
    quick.until(lambda: not quick.unfinished())
    assert last_action(quick, uuid) == ("trigger_crash_dump", None)
    old = {"trigger_crash_dump": None}
    assert quick.admin.post(f"/servers/{uuid}/action", old, version="2.16").status in (400, 404)


def test_what_servers_do_not_have(quick: Federation) -> None:
    user = quick.user("u", uuid4().hex)
    uuid = quick.boot(user)
    assert quick.act(uuid, "injectNetworkInfo").status == 202
    assert quick.act(uuid, "injectNetworkInfo", by=user).status == 403
    answer = user.get(f"/servers/{uuid}/topology", version="2.78")
    assert (answer.status, answer.json) == (200, {"nodes": [], "pagesize_kb": None})
    assert user.get(f"/servers/{uuid}/topology", version="2.77").status == 404
