"""Actions on servers of a cell that does not answer, recorded at the client's wish and done when it is back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from api_cell.servers import act, recorded
from mapping_db import recorded_actions
from tests.edge.client import Client, Reply
from tests.federation.cloud import Federation

RECORD = {"X-Polycell-Cell-Down": "record"}


@pytest.fixture
def cloud(small: Federation) -> Iterator[Federation]:
    yield small
    small.wake("cell1")
    small.until(lambda: waiting(small) == [])


def waiting(cloud: Federation) -> list[recorded_actions.RecordedAction]:
    with cloud.db.connect() as tx:
        return recorded_actions.oldest(tx, 1000)


def ask(cloud: Federation, uuid: str, action: str, content: Any = None, by: Client | None = None) -> Reply:
    return (by or cloud.admin).post(f"/servers/{uuid}/action", {action: content}, headers=RECORD)


def actions(cloud: Federation, uuid: str) -> list[tuple[str, str | None]]:
    """What was done to the server, newest first, each with its message."""
    shown = cloud.admin.get(f"/servers/{uuid}/os-instance-actions", version="2.21").json["instanceActions"]
    return [(each["action"], each["message"]) for each in shown]


def test_they_are_done_in_their_order_when_the_cell_is_back(cloud: Federation) -> None:
    uuid = cloud.boot(cell="cell1")
    cloud.silence("cell1")
    for action, content in (("os-stop", None), ("os-start", None), ("reboot", {"type": "HARD"}), ("os-stop", None)):
        answer = ask(cloud, uuid, action, content)
        assert (answer.status, answer.headers["X-Polycell-Recorded"]) == (202, "true"), answer.raw
    cloud.wake("cell1")
    cloud.until(lambda: waiting(cloud) == [])
    assert cloud.settled(uuid)["status"] == "SHUTOFF"
    assert actions(cloud, uuid)[:4] == [("stop", None), ("reboot", None), ("start", None), ("stop", None)]


def test_metadata_too(cloud: Federation) -> None:
    uuid = cloud.boot(cell="cell1", metadata={"a": "1", "b": "2"})
    path, admin = f"/servers/{uuid}/metadata", cloud.admin
    cloud.silence("cell1")
    replies = [
        admin.post(path, {"metadata": {"c": "3"}}, headers=RECORD),
        admin.put(f"{path}/a", {"meta": {"a": "4"}}, headers=RECORD),
        admin.delete(f"{path}/b", headers=RECORD),
        admin.delete(f"{path}/nothing", headers=RECORD),
    ]
    assert [(each.status, each.headers["X-Polycell-Recorded"]) for each in replies] == [(202, "true")] * 4
    cloud.wake("cell1")
    cloud.until(lambda: waiting(cloud) == [])
    assert cloud.show(uuid)["metadata"] == {"a": "4", "c": "3"}


def test_without_the_clients_wish_they_are_refused(cloud: Federation) -> None:
    uuid = cloud.boot(cell="cell1")
    cloud.silence("cell1")
    refused = cloud.act(uuid, "os-stop")
    assert (refused.status, "Retry-After" in refused.headers) == (503, True)
    assert cloud.admin.post(f"/servers/{uuid}/metadata", {"metadata": {"a": "1"}}).status == 503
    assert ask(cloud, uuid, "pause").status == 503  # not among those that are recorded
    odd = cloud.admin.post(f"/servers/{uuid}/action", {"os-stop": None}, headers={"X-Polycell-Cell-Down": "maybe"})
    assert odd.status == 400
    assert waiting(cloud) == []


def test_a_cell_that_answers_is_not_waited_for(cloud: Federation) -> None:
    uuid = cloud.boot(cell="cell1")
    answer = ask(cloud, uuid, "os-stop")
    assert (answer.status, answer.headers.get("X-Polycell-Recorded")) == (202, None)
    assert cloud.settled(uuid)["status"] == "SHUTOFF"
    assert ask(cloud, uuid, "os-stop").status == 409


def test_rights_are_checked_at_once(cloud: Federation) -> None:
    uuid = cloud.boot(cell="cell1")
    cloud.silence("cell1")
    stranger = cloud.user("stranger", "strange-project")
    assert ask(cloud, uuid, "os-stop", by=stranger).status == 404
    assert cloud.admin.delete(f"/servers/{uuid}").status == 204
    assert ask(cloud, uuid, "os-stop").status == 404
    assert waiting(cloud) == []


def test_what_the_cell_refuses_is_in_the_servers_history(cloud: Federation) -> None:
    owner = cloud.user("locked", "locked-project")
    uuid = cloud.boot(owner, availability_zone=None)
    while cloud.show(uuid)["OS-EXT-SRV-ATTR:host"] != "cell1-host1":
        uuid = cloud.boot(owner, availability_zone=None)
    assert cloud.act(uuid, "lock").status == 202
    cloud.silence("cell1")
    assert ask(cloud, uuid, "os-stop", by=owner).status == 202
    assert ask(cloud, uuid, "os-start").status == 202  # it runs
    cloud.wake("cell1")
    cloud.until(lambda: waiting(cloud) == [])
    assert cloud.settled(uuid)["status"] == "ACTIVE"
    assert actions(cloud, uuid)[:2] == [("start", "Error"), ("stop", "Error")]


def test_a_server_deleted_meanwhile_has_nothing_done_to_it(cloud: Federation) -> None:
    uuid = cloud.boot(cell="cell1")
    cloud.silence("cell1")
    assert ask(cloud, uuid, "os-stop").status == 202
    assert cloud.admin.delete(f"/servers/{uuid}").status == 204
    cloud.wake("cell1")
    cloud.until(lambda: cloud.gone(uuid))
    cloud.until(lambda: waiting(cloud) == [])
    assert "stop" not in dict(actions(cloud, uuid))


def test_replayed_by_two_they_are_done_once(cloud: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first has begun it and dies before it can say so."""
    uuid = cloud.boot(cell="cell1")
    cloud.silence("cell1")
    assert ask(cloud, uuid, "reboot", {"type": "HARD"}).status == 202
    begun = []

    def dying(*arguments: Any, **options: Any) -> act.Begun:
        begun.append(act_begin(*arguments, **options))
        raise RuntimeError("killed")

    act_begin = act.begin
    with monkeypatch.context() as killing:
        killing.setattr(recorded.act, "begin", dying)
        cloud.wake("cell1")
        cloud.until(lambda: begun)
    cloud.until(lambda: waiting(cloud) == [])
    cloud.settled(uuid)
    assert actions(cloud, uuid)[:2] == [("reboot", None), ("create", None)]
