"""Hosts that lack an ability: what needs it is refused before it is accepted, and nothing is left of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from api_cell.superconductor.moves import recipes
from api_cell.superconductor.moves.step_context import StepFailed
from cell_service.context import Deadline
from cell_service.db import compute_nodes
from cell_service.model.ability import OF_HARDWARE, Ability
from cell_service.model.move import MoveKind
from compute_host.virt import abilities
from compute_host.virt.abilities import abilities_of
from compute_host.virt.driver import Driver
from mapping_db import host_mappings
from tests.federation.cloud import Federation
from tests.federation.test_volumes import attach, attached, detach, status, volume

HOSTS = ("cell1-host1", "cell2-host1")


@contextmanager
def unable(cloud: Federation, *lacking: Ability, hosts: tuple[str, ...] = HOSTS) -> Iterator[None]:
    """While it runs the agents of the hosts report that their hypervisors lack the abilities."""
    drivers = [agent.driver for fleet in cloud.fleets.values() for host, agent in fleet.agents.items() if host in hosts]
    able = tuple(ability.value for ability in Ability if ability not in lacking)

    def reported(driver: Driver) -> tuple[str, ...]:
        return able if driver in drivers else abilities_of(driver)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(abilities, "abilities_of", reported)
        cloud.until(lambda: all(known(cloud, host) == (able, able) for host in hosts))
        yield
    every = tuple(ability.value for ability in Ability)
    cloud.until(lambda: all(known(cloud, host) == (every, every) for host in hosts))


def known(cloud: Federation, host: str) -> tuple[tuple[str, ...] | None, ...]:
    """The host's abilities as its cell knows them, and as the scheduler does."""
    with cloud.db.connect() as tx:
        mapping = host_mappings.get(tx, host)
    with cloud.cells.open(mapping.cell_id).db.connect(Deadline.after(60)) as tx:
        (node,) = compute_nodes.list_all(tx, host=host)
    chosen = [each for each in cloud.superconductor.scheduled_hosts() if each.host == host]
    return node.report.abilities, *(each.abilities for each in chosen)


def on_volume(cloud: Federation) -> str:
    device = {"boot_index": 0, "uuid": cloud.image_id, "source_type": "image", "destination_type": "volume"}
    return cloud.boot(imageRef=None, block_device_mapping_v2=[{**device, "volume_size": 1}])


def actions(cloud: Federation, uuid: str) -> list[str]:
    listed = cloud.admin.get(f"/servers/{uuid}/os-instance-actions").json["instanceActions"]
    return [each["action"] for each in listed]


REFUSED: list[tuple[Ability, str, Any, int]] = [
    (Ability.SNAPSHOTS, "createImage", {"name": "never"}, 409),
    (Ability.SNAPSHOTS, "createBackup", {"name": "never", "backup_type": "daily", "rotation": 1}, 409),
    (Ability.SNAPSHOTS, "shelve", None, 409),
    (Ability.RESCUE, "rescue", None, 501),
    (Ability.PASSWORDS, "changePassword", {"adminPass": "new"}, 501),
    (Ability.CRASH_DUMPS, "trigger_crash_dump", None, 409),
    (Ability.MOVES, "migrate", None, 409),
    (Ability.MOVES, "resize", {"flavorRef": "2"}, 409),
    (Ability.MOVES, "os-migrateLive", {"host": None, "block_migration": "auto"}, 409),
]


def test_what_a_host_cannot_do_is_refused_at_once_and_leaves_nothing(small: Federation) -> None:
    small.admin.post("/flavors", {"flavor": {"id": "2", "name": "second", "vcpus": 2, "ram": 512, "disk": 1}})
    uuid, off, first, second = small.boot(cell="cell1"), small.boot(cell="cell1"), volume(small), volume(small)
    share, images = {"share": {"share_id": small.share()}}, len(small.images.records)
    assert small.act(off, "os-stop").status == 202
    assert attach(small, uuid, first).status == 200
    small.until(lambda: status(small, first) == "in-use")
    small.settled(off)
    before = actions(small, uuid)
    with unable(small, *(set(Ability) - OF_HARDWARE)):
        for ability, action, content, expected in REFUSED:
            answer = small.act(uuid, action, content)
            assert answer.status == expected, (action, answer.raw)
            assert ability.phrase in str(answer.json)
        assert attach(small, uuid, second).status == 409
        replacement = {"volumeAttachment": {"volumeId": second}}
        assert small.admin.put(f"/servers/{uuid}/os-volume_attachments/{first}", replacement).status == 409
        assert status(small, second) == "available"
        assert small.admin.post(f"/servers/{uuid}/os-interface", {"interfaceAttachment": {}}).status == 501
        assert small.admin.post(f"/servers/{off}/shares", share, version="2.97").status == 403
        assert len(small.images.records) == images
        assert actions(small, uuid) == before
        shown = small.show(uuid)
        assert (shown["status"], shown["OS-EXT-STS:task_state"]) == ("ACTIVE", None)
        assert small.unfinished() == []
        assert detach(small, uuid, first).status == 202
        small.until(lambda: not attached(small, uuid) and status(small, first) == "available")
    assert small.act(uuid, "trigger_crash_dump").status == 202
    assert small.admin.post(f"/servers/{off}/shares", share, version="2.97").status == 201
    for each in (uuid, off):
        small.settled(each)
        small.admin.delete(f"/servers/{each}")


def test_volumes_of_suspended_guests_and_drives_of_running_ones_stay_where_hosts_cannot_change_them(
    small: Federation,
) -> None:
    on_sata = small.images.add(b"content", properties={"hw_disk_bus": "sata"})
    uuid, first, second = small.boot(imageRef=on_sata), volume(small), volume(small)
    assert attach(small, uuid, first).status == 200
    small.until(lambda: status(small, first) == "in-use")
    lacking = (Ability.SUSPENDED_PLUGS, Ability.DRIVE_PLUGS)
    with unable(small, *lacking):
        before = actions(small, uuid)
        refused = [attach(small, uuid, second), detach(small, uuid, first)]
        assert [each.status for each in refused] == [409, 409]
        assert all(Ability.DRIVE_PLUGS.phrase in str(each.json) for each in refused)
        assert actions(small, uuid) == before
        assert small.act(uuid, "suspend").status == 202
        small.until(lambda: small.show(uuid)["status"] == "SUSPENDED")
        before = actions(small, uuid)
        refused = [attach(small, uuid, second), detach(small, uuid, first)]
        assert [each.status for each in refused] == [409, 409]
        assert all(Ability.SUSPENDED_PLUGS.phrase in str(each.json) for each in refused)
        assert actions(small, uuid) == before
        assert (status(small, second), [each["volumeId"] for each in attached(small, uuid)]) == ("available", [first])
        assert small.admin.post(f"/servers/{uuid}/os-interface", {"interfaceAttachment": {}}).status == 409
    assert attach(small, uuid, second).status == 200
    assert detach(small, uuid, first).status == 202
    small.until(lambda: [each["volumeId"] for each in attached(small, uuid)] == [second])
    assert small.act(uuid, "resume").status == 202
    small.settled(uuid)
    small.admin.delete(f"/servers/{uuid}")


def test_servers_with_volumes_get_hosts_that_attach_volumes(small: Federation) -> None:
    with unable(small, Ability.VOLUMES, hosts=HOSTS[:1]):
        for _ in range(3):
            uuid = on_volume(small)
            assert small.show(uuid)["OS-EXT-SRV-ATTR:host"] == HOSTS[1]
            small.admin.delete(f"/servers/{uuid}")
    with unable(small, Ability.VOLUMES):
        uuid = on_volume(small)
        shown = small.show(uuid)
        assert shown["status"] == "ERROR"
        assert "cannot attach volumes to its guests" in shown["fault"]["details"]
        small.admin.delete(f"/servers/{uuid}")


@pytest.mark.parametrize("how", ["confirmResize", "revertResize"])
def test_a_host_that_cannot_move_its_guests_resizes_them_where_they_are(tmp_path: Path, how: str) -> None:
    cloud = Federation(tmp_path, cells=1, same_host=True, move_seconds=0)
    try:
        larger = {"id": "2", "name": "second", "vcpus": 2, "ram": 512, "disk": 2}
        cloud.admin.post("/flavors", {"flavor": larger})
        uuid = cloud.boot()
        host = cloud.show(uuid)["OS-EXT-SRV-ATTR:host"]
        with unable(cloud, Ability.MOVES, hosts=("cell1-host1", "cell1-host2")):
            assert cloud.act(uuid, "migrate").status == 409
            assert cloud.act(uuid, "resize", {"flavorRef": "2"}).status == 202
            cloud.until(lambda: cloud.show(uuid)["status"] == "VERIFY_RESIZE")
            assert cloud.show(uuid)["OS-EXT-SRV-ATTR:host"] == host
            assert cloud.act(uuid, how).status in (202, 204)
            cloud.until(lambda: cloud.show(uuid)["status"] == "ACTIVE")
            shown = cloud.show(uuid)
        kept = "second" if how == "confirmResize" else "tiny"
        assert (shown["status"], shown["flavor"]["original_name"], shown["OS-EXT-SRV-ATTR:host"]) == (
            "ACTIVE",
            kept,
            host,
        )
        assert sorted(cloud.guests()[host]) == [uuid]
    finally:
        cloud.close()


def test_a_resize_that_is_given_up_gives_the_guest_its_size_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_context: object) -> bool:
        raise StepFailed("Broken by the test.")

    recipe = recipes.TO_DESTINATION[MoveKind.RESIZE]
    steps = tuple(replace(step, do=broken) if step.name == "seal" else step for step in recipe.steps)
    monkeypatch.setitem(recipes.TO_DESTINATION, MoveKind.RESIZE, replace(recipe, steps=steps))
    cloud = Federation(tmp_path, cells=1, same_host=True, move_seconds=0)
    try:
        cloud.admin.post("/flavors", {"flavor": {"id": "2", "name": "second", "vcpus": 2, "ram": 512, "disk": 2}})
        uuid = cloud.boot()
        host = cloud.show(uuid)["OS-EXT-SRV-ATTR:host"]
        with unable(cloud, Ability.MOVES, hosts=("cell1-host1", "cell1-host2")):
            assert cloud.act(uuid, "resize", {"flavorRef": "2"}).status == 202
            cloud.until(lambda: cloud.show(uuid)["OS-EXT-STS:task_state"] is None)
        shown = cloud.show(uuid)
        assert (shown["status"], shown["flavor"]["original_name"]) == ("ACTIVE", "tiny")
        guest = cloud.fleets["cell1"].agents[host].driver._state.get(uuid)
        assert (guest.vcpus, guest.memory_mib) == (shown["flavor"]["vcpus"], shown["flavor"]["ram"])
    finally:
        cloud.close()


def test_a_resize_to_a_smaller_disk_is_refused(small: Federation) -> None:
    small.admin.post("/flavors", {"flavor": {"id": "thin", "name": "thin", "vcpus": 1, "ram": 64, "disk": 1}})
    small.admin.post("/flavors", {"flavor": {"id": "wide", "name": "wide", "vcpus": 1, "ram": 64, "disk": 2}})
    uuid = small.boot(flavorRef="wide")
    answer = small.act(uuid, "resize", {"flavorRef": "thin"})
    assert (answer.status, "Unable to resize disk down" in str(answer.json)) == (400, True)
    assert small.show(uuid)["status"] == "ACTIVE"
    small.admin.delete(f"/servers/{uuid}")
