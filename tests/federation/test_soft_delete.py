"""Servers that are deleted for now, and restored, or reclaimed when their time is over."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from api_cell.servers import soft_delete
from cell_service.context import Deadline
from cell_service.db import instances
from tests.federation.cloud import Federation

KEPT_SECONDS = 3600


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    made = Federation(tmp_path_factory.mktemp("cloud"), move_seconds=0, live_seconds=0, reclaim=KEPT_SECONDS)
    yield made
    made.close()


def deleted_for_now(cloud: Federation, uuid: str) -> dict[str, Any]:
    assert cloud.admin.delete(f"/servers/{uuid}").status == 204
    shown: dict[str, Any] = cloud.settled(uuid)
    assert (shown["status"], shown["OS-EXT-STS:power_state"]) == ("SOFT_DELETED", 4)
    return shown


def age(cloud: Federation, uuid: str, seconds: float) -> None:
    """Let its delete have been accepted so long ago."""
    cell_id = cloud.cloud.locator.find(uuid).cell_id
    assert cell_id is not None

    def work(tx: Any) -> None:
        now, known = cloud.clock.now(), instances.get(tx, uuid).system_metadata
        then = (now - timedelta(seconds=seconds)).isoformat()
        instances.change(tx, uuid, now=now, system_metadata={**known, soft_delete.SINCE: then})

    cloud.cells.open(cell_id).db.run(work, Deadline.after(10))


@pytest.mark.parametrize("before", [None, "os-stop", "pause", "suspend", "rescue"])
def test_a_deleted_server_is_restored(quick: Federation, before: str | None) -> None:
    uuid = quick.boot()
    if before is not None:
        assert quick.act(uuid, before).status in (200, 202)
        quick.settled(uuid)
    deleted_for_now(quick, uuid)
    assert uuid in quick.allocations()
    assert quick.act(uuid, "os-start").status == 409
    assert quick.admin.delete(f"/servers/{uuid}").status == 204
    assert quick.show(uuid)["status"] == "SOFT_DELETED"
    assert quick.act(uuid, "restore").status == 202
    shown = quick.settled(uuid)
    assert (shown["status"], shown["OS-EXT-STS:power_state"]) == ("ACTIVE", 1)
    assert quick.act(uuid, "restore").status == 409


def test_what_is_late_is_reclaimed(quick: Federation) -> None:
    late, early, restored = quick.boot(), quick.boot(), quick.boot()
    for uuid in (late, early, restored):
        deleted_for_now(quick, uuid)
    for uuid in (late, restored):
        age(quick, uuid, KEPT_SECONDS + 1)
    assert quick.act(restored, "restore").status == 202
    quick.settled(restored)
    quick.superconductor.reclaim()
    quick.until(lambda: quick.gone(late) and not quick.unfinished())
    assert late not in quick.allocations()
    assert quick.show(early)["status"] == "SOFT_DELETED"
    assert quick.show(restored)["status"] == "ACTIVE"


def test_a_forced_delete_is_one(quick: Federation) -> None:
    user = quick.user("u", uuid4().hex)
    uuid, other = quick.boot(user), quick.boot(user)
    assert quick.act(uuid, "forceDelete", by=quick.user("v", uuid4().hex)).status == 404
    assert user.delete(f"/servers/{uuid}").status == 204
    quick.settled(uuid, quick.admin)
    for one in (uuid, other):
        assert quick.act(one, "forceDelete", by=user).status == 202
        quick.until(lambda one=one: quick.gone(one))  # type: ignore[misc]
    quick.until(lambda: not quick.unfinished())
    assert uuid not in quick.allocations()


def test_what_has_no_guest_to_keep_goes_at_once(quick: Federation) -> None:
    uuid = quick.boot()
    assert quick.act(uuid, "shelve").status == 202
    assert quick.settled(uuid)["status"] == "SHELVED_OFFLOADED"
    assert quick.admin.delete(f"/servers/{uuid}").status == 204
    quick.until(lambda: quick.gone(uuid) and not quick.unfinished())


def test_a_locked_server_is_not_deleted(quick: Federation) -> None:
    user = quick.user("w", uuid4().hex)
    uuid = quick.boot(user)
    assert quick.act(uuid, "lock", by=user).status == 202
    assert user.delete(f"/servers/{uuid}").status == 409
    assert quick.act(uuid, "forceDelete", by=user).status == 409


def listed(cloud: Federation, query: str = "") -> set[str]:
    answer = cloud.admin.get(f"/servers{query}", version="2.96")
    assert answer.status == 200, answer.raw
    return {each["id"] for each in answer.json["servers"]}


def test_lists_leave_them_out_unless_they_are_asked_for(quick: Federation) -> None:
    kept, gone = quick.boot(cell="cell1"), quick.boot(cell="cell2")
    deleted_for_now(quick, gone)
    for query in ("", "?sort_key=display_name", "?limit=1000&name=s", "?deleted=false", "?status=ACTIVE"):
        found = listed(quick, query)
        assert (kept in found, gone in found) == (True, False), query
    for query in ("?deleted=true", "?status=SOFT_DELETED", "?soft_deleted=true&name=s"):
        assert gone in listed(quick, query), query
    assert kept not in listed(quick, "?deleted=true")
    assert {kept, gone} <= listed(quick, "?changes-since=2020-01-01T00:00:00Z")
    assert quick.act(gone, "restore").status == 202
    quick.settled(gone)
    assert {kept, gone} <= listed(quick)
