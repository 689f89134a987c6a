"""Volumes go with the servers that move, and are nobody else's meanwhile. (Stopped at each step: see test_moves.)"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cell_service.errors import DriverError
from cell_service.model.move import MoveKind
from compute_host.virt.simulated.driver import SimulatedDriver
from tests.federation.cloud import Federation
from tests.federation.test_moves import HOST, ended, flavor, force_down, start
from tests.federation.test_volumes import status, volume
from tests.federation.volume_books import attachments, check_reserved, check_volumes, devices, on_volumes

HERE = "cell1-host1"
THERE = pytest.mark.parametrize("there", ["cell1-host2", "cell2-host1"])


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    made = Federation(tmp_path_factory.mktemp("cloud"), move_seconds=0, live_seconds=0)
    yield made
    made.close()


@THERE
@pytest.mark.parametrize("how", ["confirmResize", "revertResize"])
@pytest.mark.parametrize("resized", [False, True])
def test_with_a_cold_migration_or_a_resize(quick: Federation, there: str, how: str, resized: bool) -> None:
    uuid = on_volumes(quick)
    if resized:
        assert quick.act(uuid, "resize", {"flavorRef": flavor(quick)}).status == 202
    else:
        start(quick, uuid, MoveKind.COLD, target_host=there)
    shown = quick.until(lambda: (now := quick.show(uuid))["status"] in ("VERIFY_RESIZE", "ERROR") and now)
    assert (shown["status"], shown.get("fault")) == ("VERIFY_RESIZE", None)
    assert quick.act(uuid, how).status in (202, 204)
    quick.until(lambda: quick.show(uuid)["status"] == "ACTIVE")
    ended(quick, uuid)
    check_volumes(quick, uuid, shown[HOST] if how == "confirmResize" else HERE)


@THERE
def test_while_the_server_runs(quick: Federation, there: str) -> None:
    uuid = on_volumes(quick)
    start(quick, uuid, MoveKind.LIVE, target_host=there)
    quick.until(lambda: quick.show(uuid)[HOST] == there)
    assert quick.settled(uuid)["status"] == "ACTIVE"
    ended(quick, uuid)
    check_volumes(quick, uuid, there)


@THERE
def test_from_a_dead_host(quick: Federation, there: str) -> None:
    uuid = on_volumes(quick)
    force_down(quick, HERE, True)
    try:
        assert quick.act(uuid, "evacuate", {"host": there}).status == 200
        quick.until(lambda: quick.show(uuid)[HOST] == there)
        assert quick.settled(uuid)["status"] == "ACTIVE"
    finally:
        force_down(quick, HERE, False)
    ended(quick, uuid)
    check_volumes(quick, uuid, there)


@pytest.mark.parametrize("how", ["confirmResize", "revertResize"])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_volume_that_leaves_a_server_is_kept_by_no_host_of_its_move(
    quick: Federation, how: str, swapped: bool
) -> None:
    """The source has its attachments until the move is over: to go back, or since it is still to be cleaned up."""
    uuid = on_volumes(quick)
    data = next(device.volume_id for device in devices(quick, uuid) if not device.is_root)
    start(quick, uuid, MoveKind.COLD, target_host="cell2-host1")
    quick.until(lambda: quick.show(uuid)["status"] == "VERIFY_RESIZE")
    assert sorted(one["volume_id"] for one in attachments(quick, uuid)).count(data) == 2
    path = f"/servers/{uuid}/os-volume_attachments/{data}"
    if swapped:
        other = {"volumeAttachment": {"volumeId": volume(quick)}}
        assert quick.admin.put(path, other, version="2.84").status == 202
    else:
        assert quick.admin.delete(path).status == 202
    quick.until(lambda: status(quick, data) == "available")
    quick.until(lambda: not quick.unfinished())
    assert data not in [one["volume_id"] for one in attachments(quick, uuid)]
    assert quick.act(uuid, how).status in (202, 204)
    quick.until(lambda: quick.show(uuid)["status"] == "ACTIVE")
    ended(quick, uuid)
    check_volumes(quick, uuid, "cell2-host1" if how == "confirmResize" else HERE)
    assert status(quick, data) == "available"


@THERE
@pytest.mark.parametrize("kind", [MoveKind.COLD, MoveKind.LIVE])
def test_a_host_that_fails_has_none_of_them(
    quick: Federation, there: str, kind: MoveKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid = on_volumes(quick)
    refused = refusing(monkeypatch, uuid)
    start(quick, uuid, kind, target_host=there)
    ended(quick, uuid)
    assert refused == [there]
    assert quick.settled(uuid)["status"] == "ACTIVE"
    check_volumes(quick, uuid, HERE)


def test_an_unshelved_server_has_them_again_also_after_a_host_that_failed(
    quick: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid = on_volumes(quick)
    assert quick.act(uuid, "shelve").status == 202
    quick.until(lambda: quick.show(uuid)["status"] == "SHELVED_OFFLOADED")
    check_reserved(quick, uuid)
    with monkeypatch.context() as failing:
        refused = refusing(failing, uuid)
        assert quick.act(uuid, "unshelve").status == 202
        quick.until(lambda: refused and quick.settled(uuid)["status"] == "SHELVED_OFFLOADED")
        ended(quick, uuid)
    check_reserved(quick, uuid)
    assert quick.act(uuid, "unshelve").status == 202
    quick.until(lambda: quick.show(uuid)["status"] == "ACTIVE")
    ended(quick, uuid)
    check_volumes(quick, uuid, quick.show(uuid)[HOST])
    assert quick.admin.delete(f"/servers/{uuid}").status == 204
    quick.until(lambda: quick.gone(uuid))
    assert attachments(quick, uuid) == []


def refusing(monkeypatch: pytest.MonkeyPatch, uuid: str) -> list[str]:
    """No host takes the guest any more; those that were asked to."""
    refused: list[str] = []
    receive = SimulatedDriver.receive

    def failing(driver: SimulatedDriver, spec: Any, migrate_data: Any) -> None:
        if spec.instance.uuid == uuid:
            refused.append(spec.instance.host)
            raise DriverError(reason="No.")
        receive(driver, spec, migrate_data)

    monkeypatch.setattr(SimulatedDriver, "receive", failing)
    return refused
