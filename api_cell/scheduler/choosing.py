"""Choosing a host for each spec, by filters and weighers, on the snapshot of all hosts."""

from __future__ import annotations

import random
import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from api_cell.scheduler import fitting, notes, requirements, weighers
from api_cell.scheduler.admission import Admission
from api_cell.scheduler.capacity import Room, room_of
from api_cell.scheduler.claiming import Pick, Record
from api_cell.scheduler.config import SchedulerSettings
from api_cell.scheduler.equivalence import EquivalenceClasses
from api_cell.scheduler.filters import registry
from api_cell.scheduler.filters.contract import Filter
from api_cell.scheduler.hosts import HostState
from api_cell.scheduler.ranking import Ranking
from api_cell.scheduler.reasons import explain
from api_cell.scheduler.request_view import GroupState, RequestView, request_view
from api_cell.scheduler.snapshot import HostSnapshot
from cell_service.context import Context
from cell_service.errors import NoValidHost, PolycellError
from cell_service.model.hardware import NO_NEEDS
from cell_service.model.operation import Alternate
from cell_service.model.request_spec import RequestSpec, Selection
from mapping_db.cloud import Cloud

RANKINGS = 16

Outcome = Selection | NoValidHost | None


@dataclass(slots=True)
class SelectRequest:
    """A request to the scheduler, and how far it is."""

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
    departed: frozenset[str] = frozenset()
    """Members of the groups that are deleted: their cells are queried when a host was refused."""
    notes: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Why there was no host, by instance, as of the last try."""
    keep: Mapping[str, str] = field(default_factory=dict)
    out_of_reach: Mapping[str, HostState] | None = None
    """See HostSnapshot.out_of_reach; None until a refusal asks for it."""


class Chooser:
    """Keeps rankings of hosts for the requests that come most often. Thread-safe under the snapshot's lock."""

    def __init__(self, cloud: Cloud, settings: SchedulerSettings, snapshot: HostSnapshot) -> None:
        """Raises Invalid for filters or weighers that don't exist."""
        self._cloud, self._settings, self._snapshot = cloud, settings, snapshot
        self._filters = registry.enabled(settings.filters)
        self._weighers, self._soft = weighers.enabled(settings.filters)
        self._kinds = EquivalenceClasses([name for name, _ in self._filters], settings.scheduler)
        self._rankings: OrderedDict[object, Ranking] = OrderedDict()

    def decide(self, request: SelectRequest, indices: Sequence[int]) -> tuple[list[Pick], dict[int, NoValidHost]]:
        """Choose host by host; each choice counts as use for the next."""
        picks: list[Pick] = []
        refused: dict[int, NoValidHost] = {}
        chance = random.Random(request.ctx.request_id)
        seed = zlib.crc32(request.ctx.request_id.encode())
        admission, now = self._admission(request), self._cloud.clock.now()
        noting = self._settings.scheduler.keep_placement_notes
        with self._snapshot.lock:
            opened: tuple[Ranking, GroupState | None] | None = None
            for index in indices:
                spec = request.specs[index]
                group = request.groups.get(spec.group_uuid) if spec.group_uuid is not None else None
                try:
                    view = request_view(spec, self._settings.scheduler, group=group, homes=request.homes)
                except PolycellError as error:
                    refused[index] = NoValidHost(reason=str(error))
                    continue
                ranking = self._ranking(view, request.cell_id)
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
                            request.ctx.request_id, now, admission.snapshot, view, ranking, admitted, reason
                        )
                    continue
                others = [] if view.forced else ranking.others(chosen, self._settings.scheduler.max_attempts - 1)
                selection = _selection(view, chosen, others)
                note = notes.chosen_note(request.ctx.request_id, now, admission.snapshot, view, ranking, admitted,
                                         drawn, chosen, others, selection.allocations) if noting else None  # fmt: skip
                pending = self._snapshot.reserve(chosen.key, selection.allocations)
                self._updated(ranking, spec)
                ranking.placed(chosen.host)
                picks.append(Pick(index, view, selection, pending, note))
        return picks, refused

    def rooms(self, request: SelectRequest) -> list[Room]:
        """How many more servers like the request's first each host would take. Raises Invalid for a strange amount, and
        NoValidHost where no cell is possible."""
        spec = request.specs[0]
        view = request_view(spec, self._settings.scheduler, homes=request.homes)
        admitted = self._admission(request).of(spec)
        if admitted.trouble is not None:
            raise NoValidHost(reason=admitted.trouble)
        checks = self._checks(view, request.cell_id)
        with self._snapshot.lock:
            hosts = list(self._snapshot.hosts.values())
        return [
            Room(host, 0, admitted.refused[host.cell_id])
            if host.cell_id in admitted.refused
            else room_of(host, view, checks)
            for host in sorted(hosts, key=lambda each: (each.cell_id, each.host, each.node))
        ]

    def would_fit(self, request: SelectRequest, index: int, hosts: Mapping[str, HostState]) -> bool:
        """Whether one of these hosts could take the instance."""
        if not hosts:
            return False
        spec, admission = request.specs[index], self._admission(request)
        group = request.groups.get(spec.group_uuid) if spec.group_uuid is not None else None
        try:
            view = request_view(spec, self._settings.scheduler, group=group, homes=request.homes)
        except PolycellError:
            return False
        admitted = admission.of(spec)
        if admitted.trouble is not None:
            return False
        checks = self._checks(view, request.cell_id)
        return any(
            state.cell_id in admission.snapshot.by_id
            and state.cell_id not in admitted.refused
            and all(check.reject(state, view) is None for _, check in checks)
            and (group is None or group.refuses(state.host) is None)
            for state in hosts.values()
        )

    def _admission(self, request: SelectRequest) -> Admission:
        per_project = self._settings.scheduler.cells_per_project
        return Admission(
            self._cloud.cells.snapshot(), request.ctx.request_id, request.home_cells, per_project, request.at_home
        )  # fmt: skip

    def _ranking(self, request: RequestView, cell_id: int | None) -> Ranking:
        """The ranking for requests like this one, up to date. Those for named hosts are not kept."""
        snapshot, spec = self._snapshot, request.spec
        key = self._kinds.of(request, cell_id, snapshot.tenants)
        ranking = self._rankings.get(key)
        if ranking is None or not self._updated(ranking, spec):
            named = spec.force_host or spec.requested_host
            ranking = Ranking(request, self._checks(request, cell_id), self._weighers, self._soft)
            ranking.update(
                list(snapshot.by_host.get(named, ()) if named is not None else snapshot.hosts), snapshot.hosts
            )
            ranking.version = snapshot.version
        self._rankings[key] = ranking
        self._rankings.move_to_end(key)
        if len(self._rankings) > RANKINGS:
            self._rankings.popitem(last=False)
        return ranking

    def _updated(self, ranking: Ranking, spec: RequestSpec) -> bool:
        """Take what has changed over into the ranking. False: too much has."""
        snapshot, named = self._snapshot, spec.force_host or spec.requested_host
        changed = snapshot.changed_since(ranking.version)
        if changed is None:
            return False
        if named is not None:
            changed = [one for one in changed if (state := snapshot.hosts.get(one)) is None or state.host == named]
        ranking.update(changed, snapshot.hosts)
        ranking.version = snapshot.version
        return True

    def _checks(self, request: RequestView, cell_id: int | None) -> list[tuple[str, Filter]]:
        """The checks that a host must pass, in order. A forced host needs the hardware, and headroom."""
        config = self._settings.scheduler
        hardware: list[tuple[str, Filter]] = [] if request.hardware == NO_NEEDS else [("", requirements.Hardware())]
        if request.forced:
            return [("", requirements.Forced()), *hardware, ("", requirements.Headroom())]
        checks: list[tuple[str, Filter]] = [("", requirements.Present())]
        if cell_id is not None:
            checks.append(("", requirements.InCell(cell_id)))
        checks += [("", requirements.Destination()), ("", requirements.Zone()), ("", requirements.Traits())]
        checks += [("", requirements.Able()), *hardware]
        if config.limit_tenants_to_placement_aggregate:
            confined = requirements.Tenants(self._snapshot.tenants, config.placement_aggregate_required_for_tenants)
            checks.append(("", confined))
        if config.enable_isolated_aggregate_filtering:
            checks.append(("", requirements.Isolated()))
        groups = ("ServerGroupAffinityFilter", "ServerGroupAntiAffinityFilter")  # the ranking's own, and always on
        return [*checks, *(one for one in self._filters if one[0] not in groups), ("", requirements.Headroom())]


def _selection(request: RequestView, chosen: HostState, others: Sequence[HostState]) -> Selection:
    return Selection(
        instance_uuid=request.spec.instance_uuid,
        cell_id=chosen.cell_id,
        host=chosen.host,
        node=chosen.node,
        provider_uuid=chosen.key,
        allocations=fitting.allocations_of(chosen, request),
        availability_zone=chosen.availability_zone,
        host_ip=chosen.host_ip,
        alternates=tuple(
            Alternate(state.host, state.node, state.key, fitting.allocations_of(state, request)) for state in others
        ),
    )
