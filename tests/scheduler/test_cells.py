"""Which cells get what is new: weights, pinned projects, reserved cells, shares of projects, hints, and the notes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from api_cell.scheduler import cells
from api_cell.scheduler.choosing import Outcome
from api_cell.scheduler.config import FilterSection, SchedulerSection, SchedulerSettings
from api_cell.scheduler.scheduler import Scheduler
from cell_service.errors import Invalid, NoValidHost
from cell_service.model.request_spec import Selection
from mapping_db import cell_mappings, instance_mappings, placement_notes, project_cells
from mapping_db.cell_mappings import CellMapping
from mapping_db.cells.topology import Snapshot
from mapping_db.instance_mappings import InstanceMapping
from mapping_db.project_cells import ProjectCells
from tests.scheduler.federation import Federation, new_uuid


def scheduler_of(federation: Federation, **scheduler: Any) -> Scheduler:
    return Scheduler(
        federation.cloud, SchedulerSettings(scheduler=SchedulerSection(**scheduler), filters=FilterSection())
    )


def select(federation: Federation, scheduler: Scheduler, count: int = 1, **spec: Any) -> list[Outcome]:
    return scheduler.select(federation.ctx, [federation.spec(**spec) for _ in range(count)])


def cell_of(outcome: Outcome) -> int:
    assert isinstance(outcome, Selection), outcome
    return outcome.cell_id


def refused(outcome: Outcome) -> str:
    assert isinstance(outcome, NoValidHost), outcome
    return str(outcome)


def change(federation: Federation, cell_id: int, **values: Any) -> None:
    uuid = federation.cells.open(cell_id).mapping.uuid
    federation.db.run(lambda tx: cell_mappings.change(tx, uuid, now=federation.clock.now(), **values))
    federation.cells.refresh()


def test_what_is_new_is_shared_by_the_weights_of_the_cells(federation: Federation) -> None:
    heavy, light = (
        federation.cell("heavy", 4, vcpus=400, memory=400000, disk=4000),
        federation.cell("light", 4, vcpus=400, memory=400000, disk=4000),
    )
    change(federation, light, weight=25)
    scheduler = scheduler_of(federation)
    landed = Counter(cell_of(one) for one in select(federation, scheduler, 180))
    assert 18 <= landed[light] <= 58  # a fifth of 180, and three standard deviations
    assert landed[heavy] == 180 - landed[light]


def test_a_drained_cell_gets_nothing_and_nothing_is_asked_of_it(federation: Federation) -> None:
    drained, other = federation.cell("drained", 2), federation.cell("other", 2)
    scheduler = scheduler_of(federation)
    select(federation, scheduler)
    change(federation, drained, weight=0)
    assert {cell_of(one) for one in select(federation, scheduler, 6)} == {other}

    [confined] = scheduler.select(federation.ctx, [federation.spec()], cell_id=drained)
    assert "2 is in cell drained, which is drained" in refused(confined)
    [forced] = select(federation, scheduler, force_host="drained-0")
    assert "which is drained" in refused(forced)
    change(federation, drained, weight=100)
    assert cell_of(scheduler.select(federation.ctx, [federation.spec()], cell_id=drained)[0]) == drained


def test_a_cell_that_is_enabled_serves_the_next_request(federation: Federation) -> None:
    cell = federation.cell("c", 1)
    change(federation, cell, disabled=True)
    scheduler = scheduler_of(federation)
    refused(select(federation, scheduler)[0])
    change(federation, cell, disabled=False)
    assert cell_of(select(federation, scheduler)[0]) == cell


def test_a_weight_is_between_0_and_100(federation: Federation) -> None:
    cell = federation.cell("c")
    for weight in (-1, 101):
        with pytest.raises(Invalid, match="weight of a cell is 0 to 100"):
            change(federation, cell, weight=weight)


def test_a_pinned_project_stays_in_its_cells(federation: Federation) -> None:
    one, two = federation.cell("one", 2), federation.cell("two", 2)
    federation.db.run(lambda tx: project_cells.pin(tx, "p1", [two]))
    federation.cells.refresh()
    scheduler = scheduler_of(federation)
    assert {cell_of(outcome) for outcome in select(federation, scheduler, 4)} == {two}
    assert one in {cell_of(outcome) for outcome in select(federation, scheduler, 8, project_id="p2")}
    change(federation, two, disabled=True)
    assert "2 is in cell one, and the project is pinned to others" in refused(select(federation, scheduler)[0])
    federation.db.run(lambda tx: project_cells.pin(tx, "p1", []))
    federation.cells.refresh()
    assert cell_of(select(federation, scheduler)[0]) == one


def test_who_lives_in_a_cell_may_move_within_it_whatever_the_rules(federation: Federation) -> None:
    one, two = federation.cell("one", 2), federation.cell("two", 2)
    federation.db.run(lambda tx: project_cells.pin(tx, "p1", [two]))
    change(federation, one, reserved=True)
    scheduler, spec = scheduler_of(federation), federation.spec()
    mapping = InstanceMapping(spec.instance_uuid, "p1", "u1", federation.clock.now(), "n", 1, 1, cell_id=one)
    federation.db.run(lambda tx: instance_mappings.insert_new(tx, [mapping]))
    home, stranger = scheduler.select(federation.ctx, [spec, federation.spec()], cell_id=one)
    assert cell_of(home) == one
    assert "pinned to others" in refused(stranger)


def test_a_reserved_cell_is_for_those_it_is_kept_for(federation: Federation) -> None:
    one, kept = federation.cell("one", 1), federation.cell("kept", 4)
    change(federation, kept, reserved=True)
    federation.db.run(lambda tx: project_cells.keep(tx, kept, ["p1"]))
    federation.cells.refresh()
    scheduler = scheduler_of(federation)
    assert {cell_of(outcome) for outcome in select(federation, scheduler, 4, project_id="p2")} == {one}
    assert kept in {cell_of(outcome) for outcome in select(federation, scheduler, 6)}
    change(federation, one, weight=0)
    [outcome] = select(federation, scheduler, project_id="p2")
    assert "4 is in cell kept, which is reserved for other projects" in refused(outcome)


def snapshot(count: int, projects: ProjectCells | None = None, **changes: Any) -> Snapshot:
    mappings = [CellMapping(number, f"uuid-{number}", f"c{number}", "", "") for number in range(1, count + 1)]
    return Snapshot(1, {each.id: replace(each, **changes) for each in mappings}, projects or ProjectCells())


def test_a_projects_share_hardly_changes_when_cells_come_and_go() -> None:
    before, after = snapshot(20), snapshot(21)
    for number in range(200):
        share = cells.share_of(f"p{number}", before.by_id.values(), 4)
        assert len(share) == 4
        assert len(share - cells.share_of(f"p{number}", after.by_id.values(), 4)) <= 1
        without = [each for each in before.by_id.values() if each.id != min(share)]
        assert share - cells.share_of(f"p{number}", without, 4) == {min(share)}
        assert cells.share_of(f"p{number}", reversed(list(before.by_id.values())), 4) == share
    spread = Counter(one for n in range(2000) for one in cells.share_of(f"p{n}", before.by_id.values(), 4))
    assert min(spread.values()) > 300  # of 400 each


def test_each_project_gets_its_share_of_cells(federation: Federation) -> None:
    for number in range(5):
        federation.cell(f"c{number}", 2, vcpus=64)
    scheduler = scheduler_of(federation, cells_per_project=2)
    for project in ("p1", "p2", "p3"):
        used = {cell_of(outcome) for outcome in select(federation, scheduler, 8, project_id=project)}
        wanted = cells.share_of(project, [each for each in federation.cells.all() if not each.is_cell0], 2)
        assert used <= wanted
        change(federation, min(wanted), weight=0)
        used = {cell_of(outcome) for outcome in select(federation, scheduler, 8, project_id=project)}
        assert min(wanted) not in used
        change(federation, min(wanted), weight=100)


def test_draws_are_the_same_for_the_same_request() -> None:
    able, weights = {1: 10, 2: 10, 3: 20}, {1: 100, 2: 50, 3: 10}
    drawn = [cells.draw(able, weights, "req-1", f"i{number}") for number in range(3000)]
    assert drawn == [cells.draw(able, weights, "req-1", f"i{number}") for number in range(3000)]
    shares = Counter(next(iter(one)) for one in drawn if one)
    assert [round(shares[cell] / 3000, 1) for cell in (1, 2, 3)] == [0.6, 0.3, 0.1]
    assert cells.draw(able, dict.fromkeys(able, 7), "req-1", "i") is None


def test_hints_name_cells_and_servers(federation: Federation) -> None:
    one, two = federation.cell("one", 2), federation.cell("two", 2)
    neighbour = new_uuid()
    mapping = InstanceMapping(neighbour, "p1", "u1", federation.clock.now(), "n", 1, 1, cell_id=one)
    federation.db.run(lambda tx: instance_mappings.insert_new(tx, [mapping]))
    scheduler = scheduler_of(federation)

    def landed(**hints: Any) -> int:
        return cell_of(select(federation, scheduler, scheduler_hints=hints)[0])

    assert landed(target_cell="two") == two
    assert landed(target_cell=federation.cells.open(one).mapping.uuid) == one
    assert landed(target_cell=["one"], different_cell=[]) == one
    assert landed(different_cell="two") == one
    assert landed(different_cell=[neighbour]) == two
    [outcome] = select(federation, scheduler, scheduler_hints={"target_cell": "three"})
    assert "No cell is called three." in refused(outcome)
    [outcome] = select(federation, scheduler, scheduler_hints={"different_cell": ["one", "two"]})
    assert "2 is in cell one, which is to be avoided" in refused(outcome)


def test_a_note_says_why(federation: Federation) -> None:
    federation.cell("one", 3)
    two = federation.cell("two", 3)
    change(federation, federation.cell("gone", 2), weight=0)
    scheduler, spec = scheduler_of(federation), federation.spec()
    [outcome] = scheduler.select(federation.ctx, [spec])
    with federation.db.connect() as tx:
        note = placement_notes.get(tx, spec.instance_uuid)
    assert note is not None
    assert isinstance(outcome, Selection)
    assert note["chosen"]["host"] == outcome.host
    assert len(note["runners_up"]) >= 3
    assert outcome.host not in [each["host"] for each in note["runners_up"]]
    assert note["cells"]["gone"] == "is in cell gone, which is drained"
    assert note["cells"]["two"] == {"weight": 100, "hosts": 3}
    assert note["asked"]["resources"] == {"VCPU": 1, "MEMORY_MB": 512, "DISK_GB": 1}

    change(federation, two, weight=0)
    huge = federation.spec(flavor=replace(spec.flavor, vcpus=99))
    refused(scheduler.select(federation.ctx, [huge])[0])
    with federation.db.connect() as tx:
        told = placement_notes.get(tx, huge.instance_uuid)
    assert told is not None
    assert ["", "lacks 99 VCPU", 8] in told["excluded"]
    assert "lacks 99 VCPU" in told["refused"]


def test_what_is_refused_before_hosts_are_compared_is_noted_too(federation: Federation) -> None:
    federation.cell("one", 1)
    spec = federation.spec(scheduler_hints={"target_cell": "none such"})
    [outcome] = scheduler_of(federation).select(federation.ctx, [spec])
    with federation.db.connect() as tx:
        note = placement_notes.get(tx, spec.instance_uuid)
    assert note is not None
    assert note["refused"] == refused(outcome) == "No valid host was found. No cell is called none such."


def test_notes_can_be_left_out(federation: Federation) -> None:
    federation.cell("one", 1)
    spec = federation.spec()
    scheduler_of(federation, keep_placement_notes=False).select(federation.ctx, [spec])
    with federation.db.connect() as tx:
        assert placement_notes.get(tx, spec.instance_uuid) is None


def test_a_moved_server_that_finds_no_host_keeps_its_note(federation: Federation) -> None:
    federation.cell("one", 1)
    scheduler, spec = scheduler_of(federation), federation.spec()
    scheduler.select(federation.ctx, [spec])
    moved = replace(spec, flavor=replace(spec.flavor, vcpus=99))
    refused(scheduler.select(federation.ctx, [moved], keep={spec.instance_uuid: new_uuid()})[0])
    with federation.db.connect() as tx:
        note = placement_notes.get(tx, spec.instance_uuid)
    assert note is not None
    assert note["chosen"]["host"] == "one-0"
