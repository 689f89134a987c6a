"""What a dead host was asked to do with volumes and ports is done without it, and nobody waits for it for ever."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from cell_service.context import Deadline
from cell_service.db import operations
from cell_service.db.schema import services
from cell_service.errors import Conflict
from cell_service.model.instance import Flavor
from cell_service.operations.host_tasks import CLEAN_UP
from cell_service.operations.volumes import DETACH_VOLUME
from mapping_db import flavors
from tests.federation.cloud import Federation
from tests.federation.test_interfaces import cards
from tests.federation.test_moves import HOST, ended, force_down
from tests.federation.test_volumes import attach, on_hypervisors, status, volume
from tests.federation.volume_books import attachments, check_volumes, devices, on_volumes

HERE = "cell1-host1"
THERE = pytest.mark.parametrize("there", ["cell1-host2", "cell2-host1"])


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    made = Federation(tmp_path_factory.mktemp("cloud"), move_seconds=0)
    yield made
    made.close()


@pytest.fixture
def silent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """A cloud of a test's own, to silence a host of."""
    made = Federation(tmp_path_factory.mktemp("cloud"), move_seconds=0)
    yield made
    made.close()


def data_of(cloud: Federation, uuid: str) -> str:
    """The volume beside the root."""
    (found,) = (device.volume_id for device in devices(cloud, uuid) if not device.is_root)
    assert found is not None
    return str(found)


def detach(cloud: Federation, uuid: str, volume_id: str) -> None:
    assert cloud.admin.delete(f"/servers/{uuid}/os-volume_attachments/{volume_id}").status == 202


def shown(cloud: Federation, uuid: str) -> list[str]:
    listed = cloud.admin.get(f"/servers/{uuid}/os-volume_attachments", version="2.96").json["volumeAttachments"]
    return [str(each["volumeId"]) for each in listed]


def waiting(cloud: Federation, uuid: str, cell: str = "cell1") -> list[tuple[str, str | None]]:
    with cloud.cells.open(cloud.ids[cell]).db.connect(Deadline.after(10)) as tx:
        return [(each.kind, each.host) for each in operations.unfinished(tx, uuid)]


def message(cloud: Federation, uuid: str, action: str) -> Any:
    listed = cloud.admin.get(f"/servers/{uuid}/os-instance-actions", version="2.96").json["instanceActions"]
    return next(each["message"] for each in listed if each["action"] == action)


def silence(cloud: Federation) -> None:
    """The host stands still, and was heard of long ago. Nobody has forced it down."""
    agent = cloud.fleets["cell1"].agents.pop(HERE)
    agent.close()
    agent.stop(10)
    cloud.until(lambda: not any(loop._running for loop in agent._loops))
    long_ago = cloud.cloud.clock.now() - timedelta(days=1)
    silenced = update(services).where(services.c.host == HERE).values(last_seen_up=long_ago)
    cloud.cells.open(cloud.ids["cell1"]).db.run(lambda tx: tx.execute(silenced), Deadline.after(10))


def bring_back(cloud: Federation) -> None:
    cloud.fleets["back"] = cloud.start_hosts("cell1", 1)


def test_a_forced_down_hosts_detach_is_done_without_it_and_its_guest_follows(quick: Federation) -> None:
    uuid = on_volumes(quick)
    data = data_of(quick, uuid)
    force_down(quick, HERE, True)
    try:
        detach(quick, uuid, data)
        quick.until(lambda: status(quick, data) == "available")
        quick.until(lambda: data not in shown(quick, uuid))
        assert data in on_hypervisors(quick, uuid)[HERE]
        assert waiting(quick, uuid) == [(CLEAN_UP.name, HERE)]
        assert message(quick, uuid, "detach_volume") is None
    finally:
        force_down(quick, HERE, False)
    quick.until(lambda: not waiting(quick, uuid))
    check_volumes(quick, uuid, HERE)
    assert quick.show(uuid)["status"] == "ACTIVE"
    assert attach(quick, uuid, data).status == 200
    quick.until(lambda: status(quick, data) == "in-use" and not waiting(quick, uuid))
    check_volumes(quick, uuid, HERE)


@pytest.mark.parametrize("how", ["detached", "deleted", "evacuated"])
def test_what_a_host_owes_of_a_guest_never_outlives_its_reason(quick: Federation, how: str) -> None:
    """Attached again, gone or elsewhere by the time that the host is back."""
    uuid = on_volumes(quick)
    data = data_of(quick, uuid)
    force_down(quick, HERE, True)
    try:
        detach(quick, uuid, data)
        quick.until(lambda: status(quick, data) == "available" and data not in shown(quick, uuid))
        if how == "detached":
            assert attach(quick, uuid, data).status == 200
        elif how == "deleted":
            assert quick.admin.delete(f"/servers/{uuid}").status == 204
            quick.until(lambda: quick.gone(uuid))
        else:
            assert quick.act(uuid, "evacuate", {"host": "cell1-host2"}).status == 200
            quick.until(lambda: quick.show(uuid)[HOST] == "cell1-host2")
            assert quick.settled(uuid)["status"] == "ACTIVE"
            assert attach(quick, uuid, data).status == 200
            quick.until(lambda: status(quick, data) == "in-use")
    finally:
        force_down(quick, HERE, False)
    quick.until(lambda: not waiting(quick, uuid))
    if how == "deleted":
        assert (attachments(quick, uuid), on_hypervisors(quick, uuid)) == ([], {})
        return
    ended(quick, uuid)
    if how == "evacuated":
        check_volumes(quick, uuid, "cell1-host2")
    else:
        quick.until(lambda: status(quick, data) in ("available", "in-use") and not waiting(quick, uuid))
        check_volumes(quick, uuid, HERE)


@THERE
@pytest.mark.parametrize("work", ["detach", "attach", "swap"])
def test_an_evacuated_server_leaves_behind_what_was_asked_of_its_host(
    silent: Federation, there: str, work: str
) -> None:
    uuid = on_volumes(silent)
    data, other = data_of(silent, uuid), volume(silent)
    silence(silent)
    if work == "detach":
        detach(silent, uuid, data)
    elif work == "attach":
        assert attach(silent, uuid, other).status == 200
    else:
        path, body = f"/servers/{uuid}/os-volume_attachments/{data}", {"volumeAttachment": {"volumeId": other}}
        assert silent.admin.put(path, body, version="2.84").status == 202
    assert [host for _, host in waiting(silent, uuid)] == [HERE]
    assert silent.act(uuid, "evacuate", {"host": there}).status == 200
    silent.until(lambda: silent.show(uuid)[HOST] == there)
    now = silent.settled(uuid)
    assert (now["status"], now.get("fault")) == ("ACTIVE", None)
    assert set(waiting(silent, uuid)) <= {(CLEAN_UP.name, HERE)}
    asked, kept = (data, None) if work == "detach" else (other, data)
    assert (status(silent, asked), data in shown(silent, uuid)) == ("available", kept == data)
    bring_back(silent)
    ended(silent, uuid)
    silent.until(lambda: not silent.unfinished())
    check_volumes(silent, uuid, there)


@THERE
@pytest.mark.parametrize(
    ("action", "content", "task"),
    [
        ("reboot", {"type": "HARD"}, "reboot_started_hard"),
        ("os-stop", None, "powering-off"),
        ("createImage", {"name": "i"}, "image_snapshot"),
        ("rebuild", {"imageRef": "IMAGE"}, "rebuilding"),
        ("pause", None, "pausing"),
        ("shelve", None, "shelving"),
        ("trigger_crash_dump", None, "None"),
    ],
)
def test_an_evacuation_supersedes_what_the_dead_host_was_doing(
    quick: Federation, there: str, action: str, content: Any, task: str
) -> None:
    uuid = quick.boot(cell="cell1")
    force_down(quick, HERE, True)
    try:
        if action == "rebuild":
            content = {"imageRef": quick.image_id}
        assert quick.act(uuid, action, content).status in (202, 200)
        assert str(quick.show(uuid)["OS-EXT-STS:task_state"]).startswith(task[:6])
        assert quick.act(uuid, "evacuate", {"host": there}).status == 200
        quick.until(lambda: quick.show(uuid)[HOST] == there)
        now = quick.settled(uuid)
        assert (now["status"], now.get("fault")) == ("ACTIVE", None)
    finally:
        force_down(quick, HERE, False)
    ended(quick, uuid)
    assert message(quick, uuid, action.removeprefix("os-")) == "Error"
    assert not waiting(quick, uuid)


def test_resetting_the_state_ends_what_waits_for_a_silent_host(silent: Federation) -> None:
    uuid = on_volumes(silent)
    data = data_of(silent, uuid)
    silence(silent)
    detach(silent, uuid, data)
    assert waiting(silent, uuid) == [(DETACH_VOLUME.name, HERE)]
    assert silent.act(uuid, "os-resetState", {"state": "active"}).status == 202
    silent.until(lambda: status(silent, data) == "available")
    silent.until(lambda: waiting(silent, uuid) == [(CLEAN_UP.name, HERE)])
    assert data not in shown(silent, uuid)
    bring_back(silent)
    silent.until(lambda: not waiting(silent, uuid))
    check_volumes(silent, uuid, HERE)


def test_a_port_goes_without_its_host_and_its_card_when_the_host_is_back(quick: Federation) -> None:
    port = quick.networks.add_port()
    uuid = quick.boot(cell="cell1", networks=[{"port": port}])
    force_down(quick, HERE, True)
    try:
        assert quick.admin.delete(f"/servers/{uuid}/os-interface/{port}").status == 202
        quick.until(lambda: quick.networks.ports[port].instance_uuid is None)
        quick.until(lambda: quick.show(uuid)["addresses"] == {})
        assert len(cards(quick, uuid)) == 1
    finally:
        force_down(quick, HERE, False)
    quick.until(lambda: cards(quick, uuid) == [])
    assert quick.show(uuid)["status"] == "ACTIVE"


@pytest.mark.parametrize(("action", "content"), [("resize", {"flavorRef": "larger"}), ("migrate", None)])
def test_a_host_that_is_down_gives_no_server_away(quick: Federation, action: str, content: Any) -> None:
    now = quick.cloud.clock.now()
    with contextlib.suppress(Conflict):
        quick.db.run(lambda tx: flavors.insert_flavor(tx, Flavor("larger", "larger", 2, 64, 1), now))
    uuid = quick.boot(cell="cell1")
    force_down(quick, HERE, True)
    try:
        refused = quick.act(uuid, action, content)
        assert (refused.status, refused.fault[1]) == (409, "Service is unavailable at this time.")
        assert quick.show(uuid)["OS-EXT-STS:task_state"] is None
    finally:
        force_down(quick, HERE, False)
    quick.until(lambda: quick.act(uuid, action, content).status == 202)


def test_a_host_of_a_cell_to_which_nothing_may_cross_is_no_destination(quick: Federation) -> None:
    uuid = quick.boot(cell="cell1")

    refused = quick.act(uuid, "migrate", {"host": "cell2-host1"})

    assert (refused.status, refused.fault[1]) == (400, "Compute host cell2-host1 could not be found.")
