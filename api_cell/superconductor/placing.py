"""Placing builds, from the build request to a cell: choose, claim, hand over. docs/flows.md has the steps and which
process goes on after each."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection

from api_cell.scheduler.claiming import Record
from api_cell.servers import act, delete
from api_cell.superconductor.context import SuperConductorContext
from cell_service.context import internal
from cell_service.db import actions, host_rows, instances, operations
from cell_service.db.sealing import Sealer
from cell_service.errors import InstanceAlreadyMoved, NoHostYet, NoValidHost, Unavailable
from cell_service.logs import about
from cell_service.model.instance import Fault, Instance
from cell_service.model.lifecycle import VmState
from cell_service.model.operation import BuildArguments
from cell_service.model.request_spec import Selection, Unreachable
from cell_service.operations.builds import BUILD
from mapping_db import build_requests, host_mappings, instance_mappings, request_specs
from mapping_db.build_requests import BuildRequest, ChosenBuildRequest
from mapping_db.cells.registry import Cell
from mapping_db.locations import Location

log = logging.getLogger(__name__)

R = TypeVar("R", bound=BuildRequest)

CHANGEABLE = (
    "display_name", "display_description", "hostname", "access_ip_v4", "access_ip_v6", "auto_disk_config",
    "pinned_availability_zone", "metadata",
)  # fmt: skip
"""The columns that clients may change of an instance that is in no cell yet, with its tags."""
TRIES = 3
"""How often a request with which placing fails unexpectedly is tried before it is failed into cell0."""


class NothingStored(Unavailable):
    """The cell did not answer, and certainly has nothing of the requests: their commit was not begun."""

    message = "Cell {cell} has none of the builds: {reason}"


class HostHasLeft(Unavailable):
    """The host has changed its cell: the request is handed over to that cell at the next attempt."""

    message = "Host {host} has left cell {cell}."


def place(deps: SuperConductorContext, instance_uuids: Iterable[str]) -> None:
    """Bring the build requests that no super-conductor has claimed as far as can be."""
    taken = deps.cloud.db.run(lambda tx: _take(tx, deps, list(instance_uuids)))
    try:
        _bring(deps, [_with_sealed_password(deps, request) for request in taken])
    except Unavailable as error:
        log.warning("builds wait", extra={"about": {"requests": len(taken), "reason": str(error)}})
        _release(deps, taken)
    except Exception:
        if len(taken) > 1:
            log.exception("a batch of builds failed, trying each alone")
            for request in taken:
                _bring_alone(deps, request)
        elif taken:
            _failed(deps, taken[0])


def _bring_alone(deps: SuperConductorContext, request: BuildRequest) -> None:
    try:
        with deps.cloud.db.connect() as tx:
            now = build_requests.get(tx, request.instance_uuid)
        if now is not None:
            _bring(deps, [now])
    except Unavailable as error:
        log.warning("build waits", extra={"about": {"instance": request.instance_uuid, "reason": str(error)}})
        _release(deps, [request])
    except Exception:  # noqa: BLE001  one odd request must not stop the others
        _failed(deps, request)


def _failed(deps: SuperConductorContext, request: BuildRequest) -> None:
    """Called while an unexpected error is handled."""
    extra = {"about": {"instance": request.instance_uuid, "attempt": request.attempt}}
    log.exception("build request failed", extra=extra)
    if request.attempt >= TRIES and not isinstance(request, ChosenBuildRequest):
        reason = "An unexpected error prevented the server from being scheduled."
        deps.cloud.db.run(lambda tx: _select_cell0(tx, deps, request.instance_uuid, reason))
    _release(deps, [request])


def _take(tx: Connection, deps: SuperConductorContext, uuids: list[str]) -> list[BuildRequest]:
    now, lease = deps.cloud.clock.now(), deps.settings.lease_seconds
    return build_requests.take(tx, uuids, owner=deps.owner, now=now, lease_seconds=lease)


def _release(deps: SuperConductorContext, requests: Iterable[BuildRequest]) -> None:
    """Release the requests: they can be claimed again at once."""
    try:
        for request in requests:
            uuid = request.instance_uuid
            deps.cloud.db.run(partial(build_requests.release, instance_uuid=uuid, owner=deps.owner))
    except Unavailable as error:
        log.warning("leases not released, they will end", extra={"about": {"reason": str(error)}})


def _bring(deps: SuperConductorContext, requests: Sequence[BuildRequest]) -> None:
    chosen = [each for each in requests if isinstance(each, ChosenBuildRequest)]
    waiting = [each for each in requests if not isinstance(each, ChosenBuildRequest)]
    for unwanted in (each for each in waiting if each.delete_requested):
        deps.cloud.db.run(partial(_withdraw, instance_uuid=unwanted.instance_uuid))
        deps.cloud.locator.forget(unwanted.instance_uuid)
    wanted = [each for each in waiting if not each.delete_requested]
    found, unavailable = _choose(deps, wanted) if wanted else ([], None)
    chosen += found
    just_chosen = {each.instance_uuid for each in wanted}
    refused, still_unavailable = _hand_over_all(deps, _followed(deps, chosen))
    unavailable = still_unavailable or unavailable
    nowhere = [each for each in refused if each.instance_uuid in just_chosen or _was_nowhere(each)]
    if nowhere:
        elsewhere = _choose_again(deps, _note_unreachable(deps, nowhere))
        unavailable = _hand_over_all(deps, elsewhere)[1] or unavailable
    if unavailable is not None:
        raise unavailable


def _hand_over_all(
    deps: SuperConductorContext, chosen: Sequence[ChosenBuildRequest]
) -> tuple[list[ChosenBuildRequest], Unavailable | None]:
    """Hand the requests over to their cells. Answers those of which this attempt has left nothing in a cell, and an
    error if one has to be tried again."""
    by_cell: dict[int, list[ChosenBuildRequest]] = defaultdict(list)
    for request in chosen:
        by_cell[request.selection.cell_id].append(request)
    refused: list[ChosenBuildRequest] = []
    unavailable: Unavailable | None = None
    for cell_id, members in by_cell.items():
        try:
            _hand_over(deps, deps.cloud.cells.open(cell_id), members)
        except NothingStored as error:
            refused += members
            unavailable = error
        except Unavailable as error:
            unavailable = error
    return refused, unavailable


def _followed(deps: SuperConductorContext, chosen: Sequence[ChosenBuildRequest]) -> list[ChosenBuildRequest]:
    """The requests, each with the cell that its chosen host is in now: where the host has changed its cell since, the
    request goes along, with the same claim."""
    hosts = {each.selection.host for each in chosen if each.selection.host}
    if not hosts:
        return list(chosen)
    with deps.cloud.db.connect() as tx:
        lives = {mapping.host: mapping.cell_id for mapping in host_mappings.of_hosts(tx, sorted(hosts))}
    return [
        each
        if lives.get(each.selection.host, each.selection.cell_id) == each.selection.cell_id
        else replace(each, selection=replace(each.selection, cell_id=lives[each.selection.host], alternates=()))
        for each in chosen
    ]


def _withdraw(tx: Connection, instance_uuid: str) -> None:
    if build_requests.delete(tx, instance_uuid, unselected=True):
        delete.forget(tx, instance_uuid)


def _was_nowhere(request: ChosenBuildRequest) -> bool:
    """Whether no attempt before this one has left anything in a cell. An attempt that was killed may have."""
    unreachable = request.selection.unreachable
    return unreachable is not None and unreachable.attempt == request.attempt - 1


def _note_unreachable(deps: SuperConductorContext, requests: Iterable[ChosenBuildRequest]) -> list[ChosenBuildRequest]:
    """Record that no cell has anything of the requests. Answers those that have waited long enough for theirs."""
    now, late = deps.cloud.clock.now(), []
    for request in requests:
        before = request.selection.unreachable
        unreachable = Unreachable(now if before is None else before.since, request.attempt)
        noted = replace(request, selection=replace(request.selection, unreachable=unreachable))
        if _reselect(deps, noted) and now - unreachable.since >= timedelta(seconds=deps.settings.build_patience):
            late.append(noted)
    return late


def _reselect(deps: SuperConductorContext, request: ChosenBuildRequest) -> bool:
    return deps.cloud.db.run(lambda tx: build_requests.reselect(tx, request, request.selection, owner=deps.owner))


def _choose_again(deps: SuperConductorContext, late: Sequence[ChosenBuildRequest]) -> list[ChosenBuildRequest]:
    """Claim another host in place of that in the unreachable cell. Answers the requests for which one was found; the
    others wait on."""
    by_uuid = {each.instance_uuid: each for each in late}

    def record(tx: Connection, selection: Selection) -> bool:
        return build_requests.reselect(tx, by_uuid[selection.instance_uuid], selection, owner=deps.owner)

    chosen = []
    for request, outcome in _selected(deps, late, record):
        if isinstance(outcome, Selection):
            about_it = {"instance": request.instance_uuid, "host": outcome.host, "not": request.selection.host}
            log.warning("host chosen in place of one in an unreachable cell", extra={"about": about_it})
            chosen.append(request.chosen(outcome))
        elif outcome is not None:  # it is tried again after as long a time
            unreachable = Unreachable(deps.cloud.clock.now(), request.attempt)
            _reselect(deps, replace(request, selection=replace(request.selection, unreachable=unreachable)))
    return chosen


def _selected(
    deps: SuperConductorContext, requests: Sequence[R], record: Record
) -> list[tuple[R, Selection | NoValidHost | None]]:
    """The scheduler's outcomes for those of the requests that still have a specification."""
    if not requests:
        return []
    with deps.cloud.db.connect() as tx:
        specs = request_specs.get_many(tx, [each.instance_uuid for each in requests])
    ctx = replace(internal(deps.cloud.clock), request_id=requests[0].request_id)
    wanted = [each for each in requests if each.instance_uuid in specs]
    outcomes = deps.scheduler.select(ctx, [specs[each.instance_uuid] for each in wanted], record)
    return list(zip(wanted, outcomes, strict=True))


def _choose(
    deps: SuperConductorContext, requests: Sequence[BuildRequest]
) -> tuple[list[ChosenBuildRequest], Unavailable | None]:
    """The requests with the selections that are recorded for them now, and an error if any has to be tried again, for
    hosts that could take it are out of reach."""

    def record(tx: Connection, selection: Selection) -> bool:
        return build_requests.set_selection(tx, selection.instance_uuid, selection, owner=deps.owner)

    chosen: list[ChosenBuildRequest] = []
    unavailable: Unavailable | None = None
    for request, outcome in _selected(deps, requests, record):
        ctx = replace(internal(deps.cloud.clock), request_id=request.request_id)
        if isinstance(outcome, NoHostYet) and not _is_overdue(deps, request):
            unavailable = Unavailable(reason=str(outcome))
        elif isinstance(outcome, NoValidHost):
            uuid, reason = request.instance_uuid, str(outcome)
            log.warning("no valid host", extra=about(ctx, instance=uuid, reason=reason))
            nowhere = deps.cloud.db.run(partial(_select_cell0, deps=deps, instance_uuid=uuid, reason=reason))
            if nowhere is not None:
                chosen.append(request.chosen(nowhere))
        elif outcome is not None:
            log.info("host chosen", extra=about(ctx, instance=request.instance_uuid, host=outcome.host))
            chosen.append(request.chosen(outcome))
    return chosen, unavailable


def _is_overdue(deps: SuperConductorContext, request: BuildRequest) -> bool:
    """Whether a build would be given up by now if a cell had it."""
    return BUILD.deadline is not None and deps.cloud.clock.now() >= request.created_at + BUILD.deadline


def _select_cell0(tx: Connection, deps: SuperConductorContext, instance_uuid: str, reason: str) -> Selection | None:
    cell0 = deps.cloud.cells.cell0().mapping.id
    selection = Selection(instance_uuid, cell0, "", "", "", {}, reason=reason)
    recorded = build_requests.set_selection(tx, instance_uuid, selection, owner=deps.owner)
    return selection if recorded else None


def _hand_over(deps: SuperConductorContext, cell: Cell, requests: Sequence[ChosenBuildRequest]) -> None:
    """Store the instances in the cell, then say so in the mappings, then wake the hosts. Raises NothingStored."""
    hosts = {each.selection.host for each in requests if each.selection.host}
    _store(deps, cell, requests, hosts)
    unwanted, changed = deps.cloud.db.run(lambda tx: _point(tx, cell.mapping.id, requests))
    for request in unwanted:
        _delete_instead(deps, cell, request)
    for request in requests:
        if request.instance_uuid not in changed:
            _remember(deps, cell, request)
    for host in hosts:
        act.wake(internal(deps.cloud.clock), cell, host)
    if changed:
        with deps.cloud.db.connect() as tx:
            now = build_requests.get_many(tx, changed).values()
        try:
            _hand_over(deps, cell, [each for each in now if isinstance(each, ChosenBuildRequest)])
        except NothingStored as error:  # the cell has them, only not as they are now
            raise Unavailable(reason=str(error)) from error


def _store(deps: SuperConductorContext, cell: Cell, requests: Sequence[ChosenBuildRequest], hosts: set[str]) -> None:
    """Store the instances in the cell, with what is to be done for them. Raises NothingStored."""
    now = deps.cloud.clock.now()
    deadline = internal(deps.cloud.clock, seconds=30).deadline
    builds = {} if cell.mapping.is_cell0 else _builds_of(deps, cell, requests)
    complete = False

    def work(tx: Connection) -> None:
        nonlocal complete
        complete = False
        for left in hosts - host_rows.lock_rows(tx, hosts):
            _demand_here(deps, cell, left)
        if cell.mapping.is_cell0:
            for request in requests:
                if not _failed_into_cell0(tx, deps, request, now):
                    _carry_changes(tx, request, now)
        elif not _stored(tx, deps, requests, builds, sealer, now):
            for request in requests:  # some were handed over before
                if not _stored(tx, deps, [request], builds, sealer, now):
                    _carry_changes(tx, request, now)
        complete = True

    try:
        sealer = cell.db.sealer(deadline)
        cell.db.run(work, deadline)
    except Unavailable as error:
        if complete:  # the commit may have been done
            raise
        raise NothingStored(cell=cell.name, reason=str(error)) from error


def _demand_here(deps: SuperConductorContext, cell: Cell, host: str) -> None:
    """Raises HostHasLeft for a host that has just gone to another cell. One that was removed is left to its cell."""
    with deps.cloud.db.connect() as tx:
        found = host_mappings.of_hosts(tx, [host])
    if found and found[0].cell_id != cell.mapping.id:
        raise HostHasLeft(host=host, cell=cell.name)


def _stored(
    tx: Connection,
    deps: SuperConductorContext,
    requests: Sequence[ChosenBuildRequest],
    builds: Mapping[str, BuildArguments],
    sealer: Sealer,
    now: datetime,
) -> bool:
    """Store the instances in the cell, each with its action and an open build. False, and nothing is changed, when the
    cell has one of them already."""
    made = [_made_of(request) for request in requests]
    if not instances.insert_all_new(tx, made):
        return False
    contexts = [deps.acting_for(each.request_id, each.instance.user_id, each.instance.project_id) for each in requests]
    actions.record_new(tx, [(ctx, each.uuid, "create", now) for ctx, each in zip(contexts, made, strict=True)])
    operations.insert_all(
        tx,
        [
            operations.new_operation(BUILD, ctx, each.uuid, each.host, now, build=builds[each.uuid], sealer=sealer)
            for ctx, each in zip(contexts, made, strict=True)
        ],
    )
    return True


def _made_of(request: ChosenBuildRequest) -> Instance:
    """The instance in the form in which its cell gets it."""
    selection, accepted = request.selection, request.instance
    return replace(
        accepted,
        host=selection.host,
        node=selection.node,
        launched_on=selection.host,
        availability_zone=selection.availability_zone or accepted.availability_zone,
    )


def _builds_of(
    deps: SuperConductorContext, cell: Cell, requests: Sequence[ChosenBuildRequest]
) -> dict[str, BuildArguments]:
    """The arguments of the builds, by instance, with the passwords that were sealed. Raises SecretsUnreadable."""
    return {
        each.instance_uuid: replace(
            each.build,
            alternates=each.selection.alternates,
            cell=cell.name,
            admin_password=_password_of(deps, each),
        )
        for each in requests
    }


def _password_of(deps: SuperConductorContext, request: BuildRequest) -> str:
    if request.sealed is None:
        return request.build.admin_password
    return deps.cloud.db.sealer().open(request.sealed)


def _with_sealed_password(deps: SuperConductorContext, request: BuildRequest) -> BuildRequest:
    """The request, whose password, where an earlier version has stored it in clear, is sealed from now on."""
    password = request.build.admin_password
    if not password:
        return request
    sealed = deps.cloud.db.sealer().seal(password)
    safe = replace(request, build=replace(request.build, admin_password=""), sealed=sealed)
    stored = deps.cloud.db.run(lambda tx: build_requests.seal_password(tx, safe, owner=deps.owner))
    return safe if stored else request


def _failed_into_cell0(tx: Connection, deps: SuperConductorContext, request: ChosenBuildRequest, now: datetime) -> bool:
    """Fail a server that found no host into cell0: it is in ERROR, and its fault says why. False when cell0 has it
    already; nothing is changed then."""
    accepted, selection = request.instance, request.selection
    ctx = deps.acting_for(request.request_id, accepted.user_id, accepted.project_id)
    fault = Fault(500, NoValidHost.SUMMARY, now, details=selection.reason)
    failed = replace(accepted, vm_state=VmState.ERROR, task_state=None, fault=fault, updated_at=now)
    if not instances.insert_new(tx, failed):
        return False
    actions.start(tx, ctx, accepted.uuid, "create", now)
    event = ("schedule_and_build_instances", None)
    actions.start_event(tx, accepted.uuid, request.request_id, *event, now)
    actions.finish_event(
        tx, accepted.uuid, request.request_id, *event, now, result=actions.ERROR, details=selection.reason
    )
    actions.finish(tx, accepted.uuid, request.request_id, now, message=actions.ERROR)
    return True


def _carry_changes(tx: Connection, request: BuildRequest, now: datetime) -> None:
    """Change in the cell, which has the instance since an earlier attempt, what clients have changed since."""
    wanted = request.instance
    columns = {name: getattr(wanted, name) for name in CHANGEABLE}
    if request.revision and instances.change(tx, wanted.uuid, now=now, **columns):
        instances.set_tags(tx, wanted.uuid, wanted.tags, now)


def _point(tx: Connection, cell_id: int, requests: Sequence[BuildRequest]) -> tuple[list[BuildRequest], list[str]]:
    """Point the mappings at the cell. Answers the requests for which a delete was requested meanwhile, and the uuids of
    those that were changed meanwhile; both still wait."""
    done = build_requests.end_many(tx, requests)
    instance_mappings.place_many(tx, done.ended, cell_id)
    return [request for request in requests if request.instance_uuid in done.unwanted], done.changed


def _delete_instead(deps: SuperConductorContext, cell: Cell, request: BuildRequest) -> None:
    """Delete the instance in its cell, like any other: a delete was accepted while it was handed over to the cell."""
    accepted, now = request.instance, deps.cloud.clock.now()
    ctx = deps.acting_for(request.request_id, accepted.user_id, accepted.project_id)
    delete.begin_in(ctx, cell, accepted.uuid, now, deps.settings.service_down_seconds)

    def work(tx: Connection) -> None:
        if build_requests.delete(tx, accepted.uuid, delete_requested=True):
            instance_mappings.move(tx, accepted.uuid, source=None, target=cell.mapping.id)

    try:
        deps.cloud.db.run(work)
    except InstanceAlreadyMoved:
        log.info("another super-conductor handed the server over", extra=about(ctx, instance=accepted.uuid))


def _remember(deps: SuperConductorContext, cell: Cell, request: BuildRequest) -> None:
    location = Location(request.instance_uuid, cell.mapping.id, 1, request.project_id)
    deps.cloud.locator.remember(location)
