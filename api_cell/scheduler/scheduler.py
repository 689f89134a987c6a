"""Choosing hosts and claiming them.

`select` works in batches. For each: (1) under the snapshot's lock, host by host, each choice counted as use at once;
(2) one global transaction with the caller's own rows, the server groups' members and the claims; (3) a claim lost to
another scheduler rolls the transaction back, and the batch is chosen again on fresher figures. So several schedulers
run side by side, and a race costs a retry, never an over-commit.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from api_cell import group_members
from api_cell.scheduler import cells, notes
from api_cell.scheduler.capacity import Room
from api_cell.scheduler.choosing import Chooser, Outcome, SelectRequest
from api_cell.scheduler.claiming import GroupMoved, Pick, Record, claim
from api_cell.scheduler.config import SchedulerSettings
from api_cell.scheduler.request_view import GroupState, hinted
from api_cell.scheduler.snapshot import HostSnapshot
from cell_service.context import Context, internal
from cell_service.errors import (
    DatabaseUnavailable,
    GenerationConflict,
    InventoryExceeded,
    NoHostYet,
    NoValidHost,
    ResourceProviderNotFound,
)
from cell_service.logs import about
from cell_service.loop import Duty, Loop
from cell_service.model.request_spec import RequestSpec, Selection
from mapping_db import instance_mappings, placement_notes, server_groups
from mapping_db.cloud import Cloud
from mapping_db.placement import allocations, providers

log = logging.getLogger(__name__)

BATCH = 50
ROUNDS = 20
"""How often a batch is chosen again after lost races."""
FOLLOW_SECONDS = 0.1
"""How old the figures of placement may be for a first try."""
VISIT_SECONDS = 2.0
"""How long a request waits for cells that have not been polled."""
RECHECK_SECONDS = 0.2
"""The greatest age of the polls of cells when a request is refused: else they are polled again first."""


class Scheduler:
    """Thread-safe. `start` keeps the snapshot of hosts fresh; without it `select` does so by itself."""

    def __init__(self, cloud: Cloud, settings: SchedulerSettings | None = None) -> None:
        """Raises Invalid for filters or weighers that don't exist."""
        self._settings = settings or SchedulerSettings()
        self._cloud = cloud
        self.snapshot = HostSnapshot(
            cloud,
            service_down_seconds=self._settings.service_down_seconds,
            default_zone=self._settings.default_availability_zone,
        )
        self._chooser = Chooser(cloud, self._settings, self.snapshot)
        self.max_attempts = self._settings.scheduler.max_attempts
        interval = self._settings.scheduler.cells_refresh_interval
        self._loop = Loop("scheduler-hosts", [Duty("following of hosts", self._follow, interval)], cloud.clock)

    def start(self) -> None:
        """Follow the hosts of the cells from now on, in a thread of its own."""
        self._loop.start()

    def stop(self) -> None:
        self._loop.stop()

    def refresh(self, ctx: Context) -> None:
        """Make the snapshot as fresh as the databases. Raises DatabaseUnavailable for the global one only."""
        self.snapshot.follow()
        self.snapshot.visit(ctx.deadline.sooner(VISIT_SECONDS))

    def rooms(self, ctx: Context, spec: RequestSpec) -> list[Room]:
        """How many more servers like this one each host would take, as of now; nothing is claimed. Raises
        DatabaseUnavailable for the global one only, Invalid, NoValidHost where no cell is possible."""
        self.refresh(ctx)
        return self._chooser.rooms(self._request(ctx, [spec], None, None, {}))

    def select(
        self,
        ctx: Context,
        specs: Sequence[RequestSpec],
        record: Record | None = None,
        *,
        cell_id: int | None = None,
        keep: Mapping[str, str] | None = None,
    ) -> list[Outcome]:
        """A host for each spec, claimed; or why there is none (NoHostYet: ask again); or None when `record` refused it.

        Claims are committed in batches, in the order of the specs, each with what `record` writes for it. `cell_id`
        confines the choice to one cell. `keep`: by instance the consumer that takes over what the instance has already,
        in the same transaction. Raises DatabaseUnavailable, DeadlineExceeded; batches before stay committed.
        """
        interval = self._settings.scheduler.cells_refresh_interval
        self.snapshot.follow(FOLLOW_SECONDS)
        self.snapshot.visit(ctx.deadline.sooner(VISIT_SECONDS), max_age=interval * 3)
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
    ) -> SelectRequest:
        uuids = {uuid for spec in specs for uuid in hinted(spec)}
        homes: Mapping[str, set[str]] = {}
        if uuids:
            with self._cloud.db.connect() as tx:
                taken = allocations.providers_of(tx, uuids)
                known = providers.by_uuids(tx, {provider for those in taken.values() for provider in those})
                homes = {
                    uuid: {known[each].root_uuid for each in those if each in known} for uuid, those in taken.items()
                }
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
        request = SelectRequest(
            ctx, specs, record, cell_id, homes, home_cells, at_home, {}, [None] * len(specs), keep=keep
        )
        self._read_groups(request)
        return request

    def _read_groups(
        self, request: SelectRequest, without: frozenset[str] | None = None, *, recheck: bool = False
    ) -> None:
        """The groups as they are committed, but for the instances (all of the request) that are still to be placed;
        with `recheck` their cells say which members are deleted."""
        uuids = {spec.group_uuid for spec in request.specs if spec.group_uuid is not None}
        if uuids:
            left = without if without is not None else {spec.instance_uuid for spec in request.specs}
            with self._cloud.db.connect() as tx:
                found = server_groups.by_uuids(tx, uuids)
            if recheck:
                members = [member for group in found.values() for member in group.members]
                until = request.ctx.deadline.sooner(VISIT_SECONDS)
                request.departed = group_members.departed(self._cloud, until, members)
            request.groups = {uuid: GroupState.of(group, left, request.departed) for uuid, group in found.items()}

    def _batch(self, request: SelectRequest, indices: list[int]) -> None:
        left = indices
        for attempt in range(ROUNDS):
            request.ctx.deadline.check("scheduler")
            picks, refused = self._chooser.decide(request, left)
            if refused and not request.rechecked:
                request.rechecked = True
                self.snapshot.cancel(pick.pending for pick in picks)
                self.snapshot.visit(request.ctx.deadline.sooner(VISIT_SECONDS), max_age=RECHECK_SECONDS)
                self.snapshot.follow()
                self._read_groups(request, self._unplaced(request, left), recheck=True)
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

    def _one(self, request: SelectRequest, index: int) -> None:
        for attempt in range(ROUNDS):
            request.ctx.deadline.check("scheduler")
            picks, refused = self._chooser.decide(request, [index])
            if refused:
                self._refuse(request, index, refused[index])
                return
            if self._committed(request, picks, attempt):
                return
        self._refuse(request, index, NoValidHost(reason="Other requests took each host that was chosen."))

    def _committed(self, request: SelectRequest, picks: list[Pick], attempt: int) -> bool:
        """Claim them all. False: a race was lost, nothing is claimed, and the figures are fresh again."""
        try:
            kept = claim(self._cloud, picks, request.record, request.keep)
        except (InventoryExceeded, ResourceProviderNotFound, GenerationConflict, GroupMoved) as lost:
            self.snapshot.cancel(pick.pending for pick in picks)
            log.info("claims lost, choosing again", extra=about(request.ctx, reason=str(lost), attempt=attempt + 1))
            self.snapshot.follow(suspects={uuid for pick in picks for uuid in pick.pending.places})
            self._read_groups(request, self._unplaced(request, [pick.index for pick in picks]))
            return False
        except BaseException:
            self.snapshot.cancel(pick.pending for pick in picks)
            raise
        self.snapshot.settle(pick.pending for pick in picks if pick.index in kept)
        self.snapshot.cancel(pick.pending for pick in picks if pick.index not in kept)
        for pick in picks:
            if pick.index in kept:
                request.outcomes[pick.index] = pick.selection
                log.info(
                    "host selected",
                    extra=about(
                        request.ctx,
                        instance=pick.selection.instance_uuid,
                        cell=self._cloud.cells.name(pick.selection.cell_id),
                        host=pick.selection.host,
                    ),
                )
        if len(kept) < len(picks):
            self._read_groups(request, self._unplaced(request, ()))
        return True

    def _refuse(self, request: SelectRequest, index: int, error: NoValidHost) -> None:
        if request.out_of_reach is None:
            request.out_of_reach = self.snapshot.out_of_reach(request.ctx.deadline.sooner(VISIT_SECONDS))
        instance, reason = request.specs[index].instance_uuid, error.fields.get("reason")
        if self._chooser.would_fit(request, index, request.out_of_reach):
            log.info("hosts are out of reach", extra=about(request.ctx, instance=instance, reason=reason))
            request.outcomes[index] = NoHostYet(**error.fields)
        else:
            log.warning("no valid host", extra=about(request.ctx, instance=instance, reason=reason))
            request.outcomes[index] = error

    def _unplaced(self, request: SelectRequest, left: Sequence[int]) -> frozenset[str]:
        """The instances of the request without a committed host."""
        return frozenset(
            request.specs[index].instance_uuid
            for index in range(len(request.specs))
            if index in left or not isinstance(request.outcomes[index], Selection)
        )

    def _note_refusals(self, request: SelectRequest) -> None:
        """Record why instances found no host. An instance that has one, and only can't be moved, keeps its note."""
        now = self._cloud.clock.now()
        wanted = {
            spec.instance_uuid: request.notes.get(spec.instance_uuid)
            or notes.plain_note(request.ctx.request_id, now, spec, str(outcome))
            for spec, outcome in zip(request.specs, request.outcomes, strict=True)
            if isinstance(outcome, NoValidHost) and spec.instance_uuid not in request.keep
        }
        request.notes.clear()
        if not wanted or not self._settings.scheduler.keep_placement_notes:
            return
        try:
            self._cloud.db.run(lambda tx: placement_notes.put(tx, wanted, now))
        except DatabaseUnavailable as error:
            log.warning("refusals are not noted", extra=about(request.ctx, reason=str(error)))

    def _follow(self) -> None:
        interval = self._settings.scheduler.cells_refresh_interval
        self.snapshot.follow()
        self.snapshot.visit(internal(self._cloud.clock, seconds=max(VISIT_SECONDS, interval)).deadline)
