"""Live migrations that take long: seen on their way, given up, hurried."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from tests.federation.cloud import Federation
from tests.federation.test_moves import HOST, USES, ended, homes


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    made = Federation(tmp_path_factory.mktemp("cloud"), move_seconds=0, live_seconds=600)
    yield made
    made.close()


def under_way(cloud: Federation, uuid: str) -> dict[str, Any]:
    """The live migration once the guest is being sent."""

    def sent() -> dict[str, Any] | bool:
        found = cloud.admin.get(f"/servers/{uuid}/migrations", version="2.96").json["migrations"]
        return found[0] if found and found[0]["memory_total_bytes"] else False

    found: dict[str, Any] = cloud.until(sent)
    return found


def begun(cloud: Federation, host: str = "cell1-host2") -> tuple[str, dict[str, Any]]:
    uuid = cloud.boot(cell="cell1")
    answer = cloud.act(uuid, "os-migrateLive", {"host": host, "block_migration": "auto"})
    assert answer.status == 202, answer.raw
    return uuid, under_way(cloud, uuid)


def test_its_progress_is_told(slow: Federation) -> None:
    uuid, shown = begun(slow)
    assert shown["memory_total_bytes"] == 64 * 2**20
    assert shown["memory_processed_bytes"] + shown["memory_remaining_bytes"] == shown["memory_total_bytes"]
    assert (shown["status"], shown["source_compute"]) == ("running", "cell1-host1")
    one = slow.admin.get(f"/servers/{uuid}/migrations/{shown['id']}", version="2.96").json["migration"]
    assert one["memory_remaining_bytes"] <= shown["memory_remaining_bytes"]
    assert slow.admin.delete(f"/servers/{uuid}/migrations/{shown['id']}", version="2.24").status == 202
    slow.settled(uuid)


@pytest.mark.parametrize("host", ["cell1-host2", "cell2-host1"])
def test_given_up_it_leaves_the_server_where_it_is(slow: Federation, host: str) -> None:
    uuid, shown = begun(slow, host)
    path = f"/servers/{uuid}/migrations/{shown['id']}"
    assert slow.admin.delete(path, version="2.23").status == 404
    assert slow.admin.delete(path, version="2.24").status == 202
    after = slow.settled(uuid)
    assert (after["status"], after[HOST], after.get("fault")) == ("ACTIVE", "cell1-host1", None)
    assert after["OS-EXT-STS:power_state"] == 1
    ended(slow, uuid)
    assert homes(slow, uuid) == ["cell1-host1"]
    assert slow.allocations()[uuid] == USES
    listed = slow.admin.get(f"/os-migrations?instance_uuid={uuid}", version="2.96").json["migrations"]
    assert [each["status"] for each in listed] == ["cancelled"]
    assert slow.admin.delete(path, version="2.24").status == 400
    assert slow.act(uuid, "os-stop").status == 202
    assert slow.settled(uuid)["status"] == "SHUTOFF"


@pytest.mark.parametrize("host", ["cell1-host2", "cell2-host1"])
def test_hurried_it_arrives(slow: Federation, host: str) -> None:
    uuid, shown = begun(slow, host)
    path = f"/servers/{uuid}/migrations/{shown['id']}/action"
    assert slow.admin.post(path, {"force_complete": None}, version="2.21").status == 404
    assert slow.admin.post(path, {"force_complete": {}}, version="2.22").status == 400
    assert slow.admin.post(path, {"force_complete": None}, version="2.22").status == 202
    slow.until(lambda: slow.show(uuid)[HOST] == host)
    assert slow.settled(uuid)["status"] == "ACTIVE"
    ended(slow, uuid)
    assert homes(slow, uuid) == [host]
    assert slow.admin.post(path, {"force_complete": None}, version="2.22").status == 400


@pytest.mark.parametrize("seen", ["accepted", "running", "sent"])
@pytest.mark.parametrize("action", ["delete", "forceDelete"])
def test_a_delete_does_not_wait_until_the_guest_has_been_sent(slow: Federation, seen: str, action: str) -> None:
    uuid = slow.boot(cell="cell1")
    assert slow.act(uuid, "os-migrateLive", {"host": "cell1-host2", "block_migration": "auto"}).status == 202
    if seen == "sent":
        under_way(slow, uuid)
    elif seen == "running":
        path = f"/servers/{uuid}/migrations"
        slow.until(
            lambda: [each["status"] for each in slow.admin.get(path, version="2.96").json["migrations"]] == ["running"]
        )
    gone = slow.admin.delete(f"/servers/{uuid}") if action == "delete" else slow.act(uuid, action)
    assert gone.status in (202, 204)
    slow.until(lambda: slow.admin.get(f"/servers/{uuid}").status == 404)
    slow.until(lambda: not slow.unfinished())
    assert uuid not in slow.allocations()
    assert uuid not in [each for guests in slow.guests().values() for each in guests]


def test_what_is_not_there_is_not_found(slow: Federation) -> None:
    uuid = slow.boot()
    assert slow.admin.delete(f"/servers/{uuid}/migrations/999999", version="2.24").status == 404
    assert slow.admin.delete(f"/servers/{uuid4()}/migrations/1", version="2.24").status == 404
    body = {"force_complete": None}
    assert slow.admin.post(f"/servers/{uuid}/migrations/999999/action", body, version="2.22").status == 404
