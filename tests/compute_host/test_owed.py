"""What a host that was down has still to remove: it is recorded, and done as soon as the host can."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import Connection

from cell_service import wire
from cell_service.db import compute_nodes, operations, services
from cell_service.errors import ImageNotFound
from cell_service.model.lifecycle import PowerState, VmState
from cell_service.operations.deletes import DELETE
from cell_service.operations.host_tasks import CLEAN_UP
from cell_service.operations.images import CREATE_IMAGE
from cell_service.operations.power import STOP
from cell_service.peers.image import NewImage
from tests.suites.one_cell import OneCell
from tests.suites.steps import KillSwitch

SOON = 30.0
"""Much less than hosts wait between two comparisons of all their guests with the cell."""


@pytest.fixture
def cell(tmp_path: Path) -> OneCell:
    return OneCell(tmp_path)


def forced_down(cell: OneCell, host: str, down: bool) -> None:
    def work(tx: Connection) -> None:
        service = services.by_host(tx, host, services.COMPUTE)
        services.change(tx, service.uuid, now=cell.clock.now(), forced_down=down)

    cell.db.run(work)


def owing(cell: OneCell, uuid: str) -> list[str | None]:
    return [one.host for one in cell.unfinished(uuid) if one.kind == CLEAN_UP.name]


@pytest.mark.parametrize("forced", [False, True], ids=["cut off", "forced down"])
def test_a_guest_deleted_without_its_host_goes_when_the_host_is_back(cell: OneCell, forced: bool) -> None:
    host = cell.host("h1")
    gone, kept = cell.boot("h1"), cell.boot("h1")
    host.claim()
    if forced:
        forced_down(cell, "h1", True)
    else:
        host.switch.dead = True
    ctx = cell.act(gone, DELETE)
    cell.pass_time(120)
    assert cell.instance(gone).vm_state is VmState.DELETED
    assert host.guests().keys() == {gone, kept}
    assert owing(cell, gone) == ["h1"]
    if forced:
        forced_down(cell, "h1", False)
    else:
        host = cell.host("h1")
    cell.pass_time(SOON)
    assert host.guests() == {kept: PowerState.RUNNING}
    assert cell.unfinished(gone) == []
    assert [event for event, _, _ in cell.events(gone, ctx.request_id)] == ["compute_terminate_instance"]


def test_a_build_that_left_a_host_in_its_midst_leaves_no_guest_there(cell: OneCell) -> None:
    host, _ = cell.host("h1", switch=KillSwitch()), cell.host("h2")
    uuid = cell.boot("h1", "h2")
    host.switch.afterwards("spawn", host.switch.kill)
    host.claim()
    cell.pass_time(400)
    assert (cell.instance(uuid).vm_state, cell.instance(uuid).host) == (VmState.ACTIVE, "h2")
    assert cell.guests_of(uuid) == ["h1", "h2"]
    cell.act(uuid, DELETE)
    cell.hosts["h2"].claim()
    assert owing(cell, uuid) == ["h1"]
    cell.host("h1", resume_guests=True)
    cell.pass_time(SOON)
    assert cell.guests_of(uuid) == []
    assert cell.unfinished(uuid) == []


def test_nothing_is_owed_by_a_host_that_is_no_more(cell: OneCell) -> None:
    host = cell.host("h1")
    before, after = cell.boot("h1"), cell.boot("h1")
    host.claim()
    forced_down(cell, "h1", True)
    cell.act(before, DELETE)
    cell.pass_time(30)
    assert owing(cell, before) == ["h1"]

    def no_more(tx: Connection) -> None:
        for node in compute_nodes.list_all(tx, host="h1"):
            compute_nodes.remove(tx, node.report.uuid)
        services.remove(tx, services.by_host(tx, "h1", services.COMPUTE).uuid)
        assert operations.forgive(tx, "h1", cell.clock.now()) == 1

    cell.db.run(no_more)
    host.switch.dead = True
    cell.act(after, DELETE)
    cell.pass_time(120)
    assert cell.instance(after).vm_state is VmState.DELETED
    assert (cell.unfinished(before), cell.unfinished(after)) == ([], [])


def test_images_that_were_being_made_go_with_an_instance_whose_host_is_down(cell: OneCell) -> None:
    host = cell.host("h1")
    uuid, half_made = cell.boot("h1"), cell.images.add()
    host.claim()
    host.switch.dead = True
    cell.act(uuid, DELETE, arguments={"unfinished_images": [half_made]})
    cell.pass_time(120)
    assert cell.instance(uuid).vm_state is VmState.DELETED
    with pytest.raises(ImageNotFound):
        cell.images.get(cell.ctx(), half_made)


def imaged(cell: OneCell) -> tuple[str, NewImage]:
    """An instance that runs on h1, and the image of it that is to be made."""
    uuid = cell.boot("h1")
    cell.host("h1").claim()
    image = NewImage(str(uuid4()), "snapshot", "p", "raw")
    cell.images.reserve(cell.ctx(), image)
    cell.act(uuid, CREATE_IMAGE, arguments={"new_image": wire.to_plain(image)})
    return uuid, image


def test_the_record_of_an_image_that_was_not_made_goes_when_the_image_service_is_back(cell: OneCell) -> None:
    uuid, image = imaged(cell)
    cell.images.down = True
    cell.pass_time(SOON)
    assert (cell.instance(uuid).vm_state, cell.instance(uuid).task_state) == (VmState.ACTIVE, None)
    assert image.id in cell.images.records
    cell.act(uuid, STOP)
    cell.pass_time(SOON)
    assert (
        cell.instance(uuid).vm_state is VmState.STOPPED
    )  # what waits for the image service keeps nothing else waiting

    cell.images.down = False
    cell.pass_time(600)
    assert image.id not in cell.images.records
    assert cell.unfinished(uuid) == []


def test_the_record_goes_also_when_the_server_has_gone_before(cell: OneCell) -> None:
    uuid, image = imaged(cell)
    cell.images.down = True
    cell.pass_time(SOON)
    cell.act(uuid, DELETE)
    cell.pass_time(SOON)
    assert cell.instance(uuid).vm_state is VmState.DELETED
    cell.images.down = False
    cell.pass_time(600)
    assert image.id not in cell.images.records
    assert cell.unfinished(uuid) == []


def test_an_image_that_was_made_before_its_operation_failed_is_kept(cell: OneCell) -> None:
    """The content is whole, and only the rest, such as the removal of older backups, was not done in time."""
    uuid, image = imaged(cell)
    host = cell.hosts["h1"]
    host.switch.afterwards("upload", host.switch.kill)
    host.claim()
    assert cell.images.records[image.id].status == "active"
    cell.pass_time(1200)
    assert cell.instance(uuid).task_state is None
    assert cell.images.records[image.id].status == "active"
    assert cell.unfinished(uuid) == []
