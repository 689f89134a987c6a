"""Choosing hosts and claiming them.

`select` works in batches. For each: (1) under the picture's lock, host by host, each choice counted as use at once;
(2) one global transaction with the caller's own rows, the server groups' members and the claims; (3) a claim lost to
somebody else undoes the transaction, and the batch is chosen again on fresher figures. So several schedulers run side
by side, and a race costs a retry, never an over-commit.
"""

from __future__ import annotations

import logging
import random
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection

from api_cell.scheduler import cells, notes, requirements, weighers
from api_cell.scheduler.admission import Admission
from api_cell.scheduler.config import SchedulerSettings
from api_cell.scheduler.filters import registry
from api_cell.scheduler.filters.contract import Filter
from api_cell.scheduler.hosts import HostState
from api_cell.scheduler.kinds import Kinds
from api_cell.scheduler.picture import Pending, Picture
from api_cell.scheduler.ranking import Ranking
from api_cell.scheduler.reasons import explain
from api_cell.scheduler.wish import GroupState, Wish, hinted, wish_for
from cell_service.context import Context, internal
from cell_service.errors import (
    Conflict,
    DatabaseUnavailable,
    GenerationConflict,
    InventoryExceeded,
    NoValidHost,
    PolycellError,
    ResourceProviderNotFound,
)
from cell_service.logs import about
from cell_service.model.operation import Alternate
from cell_service.model.request_spec import RequestSpec, Selection
from mapping_db import instance_mappings, placement_notes, server_groups
from mapping_db.cloud import Cloud
from mapping_db.placement import allocations
from mapping_db.placement.allocations import Claim

log = logging.getLogger(__name__)

BATCH = 50
ROUNDS = 20
"""How often a batch is chosen anew after lost races."""
RANKINGS = 16
FOLLOW_SECONDS = 0.1
"""How old the figures of placement may be for a first try."""
VISIT_SECONDS = 2.0
"""How long a request waits for cells that have not been looked at."""
RECHECK_SECONDS = 0.2
"""Before a request is refused, the cells are looked at again if they were not within this time."""

Record = Callable[[Connection, Selection], bool]
"""Called in the claim's transaction, perhaps more than once. False: not wanted any more; nothing is claimed then."""
Outcome = Selection | NoValidHost | None


class GroupMoved(Conflict):
    """A server group's members went elsewhere while one more was being placed."""

    message = "Server group {uuid} changed meanwhile."


@dataclass(frozen=True, slots=True)
class Pick:
    """A choice that is not yet claimed. `index` is the spec's place in the request."""

    index: int
    wish: Wish
    selection: Selection
    pending: Pending
    note: Mapping[str, Any] | None = None


@dataclass(slots=True)
class _Request:
    """A `select` under way."""

    ctx: Context
    specs: Sequence[RequestSpec]
    record: Record | None
    cell_id: int | None
    homes: Mapping[str, set[str]]
    home_cells: Mapping[str, int | None]
    """The cells of the servers that hints name."""
    at_home: frozenset[str]
    """The instances that live in the cell which the choice is confined to."""
    groups: dict[str, GroupState]
    outcomes: list[Outcome]
    rechecked: bool = False
    notes: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Why there was no host, by instance, as of the last try."""
    keep: Mapping[str, str] = field(default_factory=dict)


class Scheduler:
    """Thread-safe. `start` keeps the picture of hosts fresh; without it `select` does so by itself."""

    def __init__(self, cloud: Cloud, settings: SchedulerSettings | None = None) -> None:
        """Raises Invalid for filters or weighers that don't exist."""
        self._settings = settings or SchedulerSettings()
        self._cloud = cloud
        self.picture = Picture(
            cloud,
            service_down_seconds=self._settings.service_down_seconds,
            default_zone=self._settings.default_availability_zone,
        )
        self._filters = registry.enabled(self._settings.filters)
        self.max_attempts = self._settings.scheduler.max_attempts
        self._weighers, self._soft = weighers.enabled(self._settings.filters)
        self._kinds = Kinds([name for name, _ in self._filters], self._settings.scheduler)
        self._rankings: OrderedDict[object, Ranking] = OrderedDict()
        self._stopping = threading.Event()
        self._watcher: threading.Thread | None = None

    def start(self) -> None:
        """Look at the cells every few seconds from now on, in a thread of its own."""
        self._watcher = threading.Thread(target=self._watch, name="scheduler-hosts", daemon=True)
        self._watcher.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._watcher is not None:
            self._watcher.join(timeout=5)

    def refresh(self, ctx: Context) -> None:
        """The picture is as fresh as the databases. Raises DatabaseUnavailable for the global one only."""
        self.picture.follow()
        self.picture.visit(ctx.deadline.sooner(VISIT_SECONDS))

    def select(
        self,
        ctx: Context,
        specs: Sequence[RequestSpec],
        record: Record | None = None,
        *,
        cell_id: int | None = None,
        keep: Mapping[str, str] | None = None,
    ) -> list[Outcome]:
        """A host for each spec, claimed; or why there is none; or None when `record` did not want it any more.

        Claims are committed in batches, in the order of the specs, each with what `record` writes for it. `cell_id`
        confines the choice to one cell. `keep`: by instance the consumer that takes over what the instance has already,
        in the same transaction. Raises DatabaseUnavailable, DeadlineExceeded; batches before stay committed.
        """
        interval = self._settings.scheduler.cells_refresh_interval
        self.picture.follow(FOLLOW_SECONDS)
        self.picture.visit(ctx.deadline.sooner(VISIT_SECONDS), max_age=interval * 3)
        request = self._request(ctx, specs, record, cell_id, keep or {})
        for start in range(0, len(specs), BATCH):
            self._batch(request, list(range(start, min(start + BATCH, len(specs)))))
            self._note_refusals(request)
        return request.outcomes

    # -- batches ------------------------------------------------------------------------------

    def _request(
        self,
        ctx: Context,
        specs: Sequence[RequestSpec],
        record: Record | None,
        cell_id: int | None,
        keep: Mapping[str, str],
    ) -> _Request:
        uuids = {uuid for spec in specs for uuid in hinted(spec)}
        homes: Mapping[str, set[str]] = {}
        if uuids:
            with self._cloud.db.connect() as tx:
                homes = allocations.providers_of(tx, uuids)
        home_cells: Mapping[str, int | None] = {}
        servers = cells.servers_of(self._cloud.cells.snapshot(), specs)
        if servers:
            with self._cloud.db.connect() as tx:
                home_cells = {uuid: place.cell_id for uuid, place in instance_mappings.places(tx, servers).items()}
        at_home: frozenset[str] = frozenset()
        if cell_id is not None:
            with self._cloud.db.connect() as tx:
                found = instance_mappings.places(tx, [spec.instance_uuid for spec in specs])
            at_home = frozenset(uuid for uuid, place in found.items() if place.cell_id == cell_id)
        request = _Request(ctx, specs, record, cell_id, homes, home_cells, at_home, {}, [None] * len(specs), keep=keep)
        self._read_groups(request)
        return request

    def _read_groups(self, request: _Request, without: frozenset[str] | None = None) -> None:
        """The groups as they are committed, but for the instances (all of the request) that are still to be placed."""
        uuids = {spec.group_uuid for spec in request.specs if spec.group_uuid is not None}
        if uuids:
            left = without if without is not None else {spec.instance_uuid for spec in request.specs}
            with self._cloud.db.connect() as tx:
                found = server_groups.by_uuids(tx, uuids)
            request.groups = {uuid: GroupState.of(group, left) for uuid, group in found.items()}

    def _batch(self, request: _Request, indices: list[int]) -> None:
        left = indices
        for attempt in range(ROUNDS):
            request.ctx.deadline.check("scheduler")
            picks, refused = self._decide(request, left)
            if refused and not request.rechecked:
                request.rechecked = True
                self.picture.cancel(pick.pending for pick in picks)
                self.picture.visit(request.ctx.deadline.sooner(VISIT_SECONDS), max_age=RECHECK_SECONDS)
                self.picture.follow()
                self._read_groups(request, self._unplaced(request, left))
                continue
            for index, error in refused.items():
                self._refuse(request, index, error)
            if not picks:
                return
            if self._committed(request, picks, attempt):
                return
            left = [pick.index for pick in picks]
            if attempt >= ROUNDS // 2:  # in a crowd the smaller step gets through
                for index in left:
                    self._one(request, index)
                return
        for index in left:
            self._refuse(request, index, NoValidHost(reason="Other requests took each host that was chosen."))

    def _one(self, request: _Request, index: int) -> None:
        for attempt in range(ROUNDS):
            request.ctx.deadline.check("scheduler")
            picks, refused = self._decide(request, [index])
            if refused:
                self._refuse(request, index, refused[index])
                return
            if self._committed(request, picks, attempt):
                return
        self._refuse(request, index, NoValidHost(reason="Other requests took each host that was chosen."))

    def _committed(self, request: _Request, picks: list[Pick], attempt: int) -> bool:
        """Claim them all. False: a race was lost, nothing is claimed, and the figures are fresh again."""
        try:
            kept = self._claim(request, picks)
        except (InventoryExceeded, ResourceProviderNotFound, GenerationConflict, GroupMoved) as lost:
            self.picture.cancel(pick.pending for pick in picks)
            log.info("claims lost, choosing again", extra=about(request.ctx, reason=str(lost), attempt=attempt + 1))
            self.picture.follow(suspects=[pick.selection.provider_uuid for pick in picks])
            self._read_groups(request, self._unplaced(request, [pick.index for pick in picks]))
            return False
        except BaseException:
            self.picture.cancel(pick.pending for pick in picks)
            raise
        self.picture.settle(pick.pending for pick in picks if pick.index in kept)
        self.picture.cancel(pick.pending for pick in picks if pick.index not in kept)
        for pick in picks:
            if pick.index in kept:
                request.outcomes[pick.index] = pick.selection
                log.info(
                    "host selected",
                    extra=about(
                        request.ctx,
                        instance=pick.selection.instance_uuid,
                        cell=pick.selection.cell_id,
                        host=pick.selection.host,
                    ),
                )
        if len(kept) < len(picks):
            self._read_groups(request, self._unplaced(request, ()))
        return True

    def _refuse(self, request: _Request, index: int, error: NoValidHost) -> None:
        request.outcomes[index] = error
        log.warning(
            "no valid host",
            extra=about(request.ctx, instance=request.specs[index].instance_uuid, reason=error.fields.get("reason")),
        )

    def _unplaced(self, request: _Request, left: Sequence[int]) -> frozenset[str]:
        """The instances of the request without a committed host."""
        return frozenset(
            request.specs[index].instance_uuid
            for index in range(len(request.specs))
            if index in left or not isinstance(request.outcomes[index], Selection)
        )

    # -- choosing -----------------------------------------------------------------------------

    def _decide(self, request: _Request, indices: Sequence[int]) -> tuple[list[Pick], dict[int, NoValidHost]]:
        """Choose host by host; each choice counts as use for the next."""
        picks: list[Pick] = []
        refused: dict[int, NoValidHost] = {}
        chance = random.Random(request.ctx.request_id)
        seed = zlib.crc32(request.ctx.request_id.encode())
        admission, now = self._admission(request), self._cloud.clock.now()
        noting = self._settings.scheduler.keep_placement_notes
        with self.picture.lock:
            opened: tuple[Ranking, GroupState | None] | None = None
            for index in indices:
                spec = request.specs[index]
                group = request.groups.get(spec.group_uuid) if spec.group_uuid is not None else None
                try:
                    wish = wish_for(spec, self._settings.scheduler, group=group, homes=request.homes)
                except PolycellError as error:
                    refused[index] = NoValidHost(reason=str(error))
                    continue
                ranking = self._ranking(wish, request.cell_id)
                if opened is None or opened[0] is not ranking or opened[1] is not group:
                    ranking.open(group, seed)
                    opened = ranking, group
                admitted = admission.of(spec)
                if admitted.trouble is not None:
                    refused[index] = NoValidHost(reason=admitted.trouble)
                    continue
                drawn = admission.drawn(spec, admitted, ranking, group)
                chosen = ranking.pick(chance, self._settings.filters.host_subset_size, drawn)
                if chosen is None:
                    reason = explain(ranking.all_refusals(admitted.refused))
                    refused[index] = NoValidHost(reason=reason)
                    if noting:
                        request.notes[spec.instance_uuid] = notes.refused_note(
                            request.ctx.request_id, now, admission.snapshot, wish, ranking, admitted, reason
                        )
                    continue
                others = [] if wish.forced else ranking.others(chosen, self._settings.scheduler.max_attempts - 1)
                note = notes.chosen_note(request.ctx.request_id, now, admission.snapshot, wish, ranking, admitted,
                                         drawn, chosen, others) if noting else None  # fmt: skip
                pending = self.picture.reserve(chosen.key, wish.resources)
                ranking.update([chosen.key], self.picture.hosts)
                ranking.version = self.picture.version
                ranking.placed(chosen.host)
                picks.append(Pick(index, wish, _selection(wish, chosen, others), pending, note))
        return picks, refused

    def _note_refusals(self, request: _Request) -> None:
        """Of instances that have no host at all: who is only not moved keeps the note of where it is."""
        without = {
            spec.instance_uuid
            for spec, outcome in zip(request.specs, request.outcomes, strict=True)
            if isinstance(outcome, NoValidHost) and spec.instance_uuid not in request.keep
        }
        wanted = {uuid: note for uuid, note in request.notes.items() if uuid in without}
        request.notes.clear()
        if not wanted:
            return
        try:
            self._cloud.db.run(lambda tx: placement_notes.put(tx, wanted, self._cloud.clock.now()))
        except DatabaseUnavailable as error:
            log.warning("refusals are not noted", extra=about(request.ctx, reason=str(error)))

    def _admission(self, request: _Request) -> Admission:
        per_project = self._settings.scheduler.cells_per_project
        return Admission(
            self._cloud.cells.snapshot(), request.ctx.request_id, request.home_cells, per_project, request.at_home
        )  # fmt: skip

    def _ranking(self, wish: Wish, cell_id: int | None) -> Ranking:
        """The ranking for wishes like this one, up to date. Those for named hosts are not kept."""
        picture, spec = self.picture, wish.spec
        named = spec.force_host or spec.requested_host
        key = self._kinds.of(wish, cell_id, picture.tenants)
        ranking = self._rankings.get(key)
        changed = picture.changed_since(ranking.version) if ranking is not None else None
        if ranking is None or changed is None:
            ranking = Ranking(wish, self._checks(wish, cell_id), self._weighers, self._soft)
            changed = list(picture.by_host.get(named, ())) if named is not None else list(picture.hosts)
        elif named is not None:
            changed = [one for one in changed if (state := picture.hosts.get(one)) is None or state.host == named]
        ranking.update(changed, picture.hosts)
        ranking.version = picture.version
        self._rankings[key] = ranking
        self._rankings.move_to_end(key)
        if len(self._rankings) > RANKINGS:
            self._rankings.popitem(last=False)
        return ranking

    def _checks(self, wish: Wish, cell_id: int | None) -> list[tuple[str, Filter]]:
        """What is asked of a host, in order. A forced host is asked for room alone."""
        config = self._settings.scheduler
        if wish.forced:
            return [("", requirements.Forced()), ("", requirements.Room())]
        checks: list[tuple[str, Filter]] = [("", requirements.Present())]
        if cell_id is not None:
            checks.append(("", requirements.InCell(cell_id)))
        checks += [("", requirements.Destination()), ("", requirements.Zone()), ("", requirements.Traits())]
        if config.limit_tenants_to_placement_aggregate:
            confined = requirements.Tenants(self.picture.tenants, config.placement_aggregate_required_for_tenants)
            checks.append(("", confined))
        if config.enable_isolated_aggregate_filtering:
            checks.append(("", requirements.Isolated()))
        groups = ("ServerGroupAffinityFilter", "ServerGroupAntiAffinityFilter")  # the ranking's own, and always on
        return [*checks, *(one for one in self._filters if one[0] not in groups), ("", requirements.Room())]

    # -- claiming -----------------------------------------------------------------------------

    def _claim(self, request: _Request, picks: Sequence[Pick]) -> frozenset[int]:
        """One transaction. The picks that `record` wanted, by index. Raises InventoryExceeded, GroupMoved."""
        now = self._cloud.clock.now()

        def work(tx: Connection) -> list[Pick]:
            record = request.record
            kept = [pick for pick in picks if record is None or record(tx, pick.selection)]
            _place_members(tx, kept)
            claims = [_claim_for(pick) for pick in kept]
            allocations.write(tx, [*claims, *_kept_claims(tx, claims, request.keep)], now)
            noted = {pick.selection.instance_uuid: pick.note for pick in kept if pick.note is not None}
            placement_notes.put(tx, noted, now)
            return kept

        return frozenset(pick.index for pick in self._cloud.db.run(work))

    def _watch(self) -> None:
        interval = self._settings.scheduler.cells_refresh_interval
        while not self._stopping.is_set():
            ctx = internal(self._cloud.clock, seconds=max(VISIT_SECONDS, interval))
            try:
                self.picture.follow()
                self.picture.visit(ctx.deadline)
            except PolycellError as error:
                log.warning("hosts can't be followed", extra=about(ctx, reason=str(error)))
            except Exception:
                log.exception("looking at hosts failed", extra=about(ctx))
            self._cloud.clock.wait(self._stopping, interval)


def _place_members(tx: Connection, picks: Sequence[Pick]) -> None:
    """Write the members' hosts with the groups' rows locked, where the policies allow them. Raises GroupMoved."""
    uuids = {pick.wish.group.uuid for pick in picks if pick.wish.group is not None}
    groups = server_groups.by_uuids(tx, uuids, lock=True)
    placing = {pick.selection.instance_uuid for pick in picks}
    states = {uuid: GroupState.of(group, placing) for uuid, group in groups.items()}
    for pick in picks:
        group = groups.get(pick.wish.group.uuid) if pick.wish.group is not None else None
        if group is None:
            continue
        state = states[group.uuid]
        if state.refuses(pick.selection.host) is not None:
            raise GroupMoved(uuid=group.uuid)
        state.add(pick.selection.host)
        server_groups.place(tx, group, pick.selection.instance_uuid, pick.selection.host)


def _claim_for(pick: Pick) -> Claim:
    spec = pick.wish.spec
    return Claim(
        consumer_uuid=spec.instance_uuid,
        allocations=pick.selection.allocations,
        project_id=spec.project_id,
        user_id=spec.user_id,
        consumer_type="INSTANCE",
    )


def _kept_claims(tx: Connection, claims: Sequence[Claim], keep: Mapping[str, str]) -> list[Claim]:
    """What the instances have now, for those who take it over."""
    moving = [claim for claim in claims if claim.consumer_uuid in keep]
    held = allocations.of_consumers(tx, [claim.consumer_uuid for claim in moving]) if moving else {}
    return [
        replace(claim, consumer_uuid=keep[claim.consumer_uuid], allocations=held[claim.consumer_uuid].allocations,
                consumer_type="MIGRATION")
        for claim in moving
        if claim.consumer_uuid in held
    ]  # fmt: skip


def _selection(wish: Wish, chosen: HostState, others: Sequence[HostState]) -> Selection:
    amounts = dict(wish.resources)
    return Selection(
        instance_uuid=wish.spec.instance_uuid,
        cell_id=chosen.cell_id,
        host=chosen.host,
        node=chosen.node,
        provider_uuid=chosen.key,
        allocations={chosen.key: amounts} if amounts else {},
        availability_zone=chosen.availability_zone,
        alternates=tuple(
            Alternate(state.host, state.node, state.key, {state.key: amounts} if amounts else {}) for state in others
        ),
    )
