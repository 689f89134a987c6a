"""All hosts in memory, following what changes: placement by its feed, cells by polling them again and again.

No host is polled by itself: a claim costs the next reader one small query, a quiet cell costs three. A cell that
doesn't answer keeps its hosts, marked absent, until it does.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from api_cell.scheduler.cell_hosts import CellHosts, Node
from api_cell.scheduler.feed import Feed, News
from api_cell.scheduler.hosts import HostState
from api_cell.scheduler.trees import Trees
from cell_service.context import Deadline
from cell_service.db import services
from cell_service.db.host_states import ServiceState
from mapping_db import host_mappings
from mapping_db.aggregates import Aggregate
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud
from mapping_db.placement.inventories import Inventory
from mapping_db.placement.stock import ProviderState

LOG_LENGTH = 50_000


@dataclass(slots=True)
class Pending:
    """A claim that is being made, on the host of that key; it counts as use until the feed reports it, or it is
    cancelled. `allocations`: by provider uuid."""

    key: str
    allocations: Mapping[str, Mapping[str, int]]
    committed: bool = False

    @property
    def places(self) -> set[str]:
        return {self.key, *self.allocations}


class HostSnapshot:
    """Thread-safe. `hosts` is changed only under `lock`; the values in it never change."""

    def __init__(self, cloud: Cloud, *, service_down_seconds: float, default_zone: str) -> None:
        self.lock = threading.RLock()
        self.hosts: dict[str, HostState] = {}
        self.by_host: dict[str, set[str]] = {}
        """Host → keys of its nodes."""
        self.tenants: frozenset[str] = frozenset()
        """Projects that an aggregate is kept for."""
        self._cloud = cloud
        self._down_seconds = service_down_seconds
        self._default_zone = default_zone
        self._following, self._visiting = threading.Lock(), threading.Lock()
        self._followed_at = self._visited_at = float("-inf")
        self._visited = -1
        """The version of the topology at the last visit."""
        self._feed, self._cells = Feed(), CellHosts()
        self._providers: dict[str, ProviderState] = {}
        self._uuids: dict[int, str] = {}
        self._trees = Trees(self._providers, self._uuids)
        self._aggregates: dict[str, tuple[Aggregate, ...]] = {}
        self._mapped: dict[str, int] = {}
        self._pending: dict[str, list[Pending]] = {}
        """By uuid of the host's provider, and of each that gives something."""
        self._log: list[str] = []
        self._log_start = 0

    @property
    def version(self) -> int:
        """Grows with every change of a host."""
        return self._log_start + len(self._log)

    def changed_since(self, version: int) -> list[str] | None:
        """Keys of the hosts that changed after that version, each once; None when that is too long ago."""
        if version < self._log_start:
            return None
        return list(dict.fromkeys(self._log[version - self._log_start :]))

    # -- following ----------------------------------------------------------------------------

    def follow(self, max_age: float = 0.0, suspects: Iterable[str] = ()) -> None:
        """Take over what has changed in the global database, unless that was done less than `max_age` seconds ago.

        `suspects` are read in any case: what is known of them has proved wrong. Raises DatabaseUnavailable.
        """
        if self._cloud.clock.monotonic() - self._followed_at < max_age:
            return
        with self._following:
            began = self._cloud.clock.monotonic()
            with self.lock:
                settled = [
                    one for key, some in self._pending.items() for one in some if one.committed and one.key == key
                ]
                also = {self._providers[key].id for key in suspects if key in self._providers}
                trees = self._trees.roots
            with self._cloud.db.connect() as tx:
                news = self._feed.read(tx, began, also, trees)
            with self.lock:
                self._take(news, settled)
            self._followed_at = began

    def visit(self, deadline: Deadline, max_age: float = 0.0) -> None:
        """Poll every cell, unless that was done less than `max_age` seconds ago and the cells are the same since.
        Those that don't answer by the deadline have their hosts marked absent. Raises DatabaseUnavailable (the global
        one)."""
        polled_at, topology = self._cloud.clock.monotonic(), self._cloud.cells.snapshot().version
        if polled_at - self._visited_at < max_age and self._visited == topology:
            return
        with self._visiting:
            if max_age and self._visited_at >= polled_at and self._visited == topology:
                return  # another thread has just done it
            polled = self._cells.poll(self._cloud, deadline)
            with self.lock:
                touched = self._cells.take(polled)
            touched |= self._map_strangers()
            with self.lock:
                touched |= {key for key, state in self.hosts.items() if key not in touched and self._flipped(state)}
                self._renew(touched)
            self._visited_at, self._visited = polled.at, topology

    def out_of_reach(self, deadline: Deadline) -> dict[str, HostState]:
        """The hosts that count as down because their cell's conductors could not watch them, as they are when they are
        up, by key. Those were up when a conductor last watched, and none has for some time: the cell's queue is away,
        or its conductors are, or they are only just back. Asks the cells that have hosts which are down."""
        with self.lock:
            unheard = [
                (self.hosts[key], service.seen_at)
                for key, node in self._cells.nodes.items()
                if (service := self._cells.service_of(node)) is not None and self._is_unheard(key, service)
            ]
        if not unheard:
            return {}

        def work(cell: Cell) -> datetime | None:
            with cell.db.connect(deadline) as tx:
                return services.watched_at(tx)

        cells, now, down = {state.cell_id for state, _ in unheard}, self._cloud.clock.now(), self._down_seconds
        watched = self._cloud.cells.scatter(cells, work, deadline, reads=True).answers
        return {
            state.key: replace(state, up=True)
            for state, seen_at in unheard
            if (last := watched.get(state.cell_id)) is not None
            and (now - last).total_seconds() > down / 2
            and (last - seen_at).total_seconds() <= down
        }

    # -- claiming -----------------------------------------------------------------------------

    def reserve(self, key: str, allocations: Mapping[str, Mapping[str, int]]) -> Pending:
        """Count the allocations as use until the claim is settled or cancelled."""
        pending = Pending(key, allocations)
        with self.lock:
            for place in pending.places:
                self._pending.setdefault(place, []).append(pending)
            self._renew(self._trees.hosts_of(pending.places))
        return pending

    def cancel(self, pendings: Iterable[Pending]) -> None:
        """Forget the claims, which were not made."""
        with self.lock:
            for pending in pendings:
                self._forget(pending)
                self._renew(self._trees.hosts_of(pending.places))

    def settle(self, pendings: Iterable[Pending]) -> None:
        """Note that the claims are committed: the feed will report them."""
        with self.lock:
            for pending in pendings:
                pending.committed = True

    # -- inside -------------------------------------------------------------------------------

    def _take(self, news: News, settled: list[Pending]) -> None:
        touched: set[str] = set()
        if news.whole:
            self._providers.clear()
            self._uuids.clear()
            self._trees.clear()
            touched |= self._cells.nodes.keys()
        for id in news.touched - news.providers.keys():
            uuid = self._uuids.pop(id, "")
            touched |= self._trees.hosts_of([uuid])
            self._trees.take(self._providers.pop(uuid, None), None)
        for provider in news.providers.values():
            former = self._uuids.get(provider.id, provider.uuid)  # another's, where a database gives an id out again
            before = self._providers.get(former)
            if before is not None and (before.uuid, before.root_id) != (provider.uuid, provider.root_id):
                touched |= self._trees.hosts_of([former])
                del self._providers[former]
            self._providers[provider.uuid] = provider
            self._uuids[provider.id] = provider.uuid
            self._trees.take(before, provider)
            touched.add(provider.uuid)
        touched |= self._trees.settle()
        touched = self._trees.hosts_of(touched)
        for pending in settled:  # what they claimed is in the figures by now; their builds are not yet in their cells
            self._forget(pending)
            self._cells.add_io_op(pending.key)
            touched |= self._trees.hosts_of(pending.places)
        if news.aggregates is not None:
            self._take_aggregates(news.aggregates)
            touched |= self._cells.nodes.keys()
        if news.mapped is not None:
            self._mapped = news.mapped
        self._renew(touched)

    def _take_aggregates(self, groups: list[Aggregate]) -> None:
        by_host: dict[str, tuple[Aggregate, ...]] = {}
        for group in groups:
            for host in group.hosts:
                by_host[host] = (*by_host.get(host, ()), group)
        self._aggregates = by_host
        self.tenants = frozenset(
            value for group in groups for key, value in group.metadata.items() if key.startswith("filter_tenant_id")
        )

    def _map_strangers(self) -> set[str]:
        """Map hosts that are not mapped here yet: they appear in their cell first, and are mapped a little later; those
        that have moved also in their new one. Keys of those that are mapped now."""
        with self.lock:
            strangers: dict[str, set[str]] = {}
            for key, node in self._cells.nodes.items():
                if self._mapped.get(node.state.host) != node.cell_id:
                    strangers.setdefault(node.state.host, set()).add(key)
        if not strangers:
            return set()
        with self._cloud.db.connect() as tx:
            found = {mapping.host: mapping.cell_id for mapping in host_mappings.of_hosts(tx, sorted(strangers))}
        with self.lock:
            self._mapped.update(found)
        return {key for host in found for key in strangers[host]}

    def _forget(self, pending: Pending) -> None:
        for place in pending.places:
            waiting = self._pending.get(place, [])
            waiting[:] = [one for one in waiting if one is not pending]
            if not waiting:
                self._pending.pop(place, None)

    def _renew(self, keys: Iterable[str]) -> None:
        """Make the hosts' states what their sources say; note those that changed."""
        for key in keys:
            before, node = self.hosts.get(key), self._cells.nodes.get(key)
            if node is None:
                if before is not None:
                    del self.hosts[key]
                    self.by_host[before.host].discard(key)
                    self._log.append(key)
                continue
            after = self._state(key, node)
            if after != before:
                self.hosts[key] = after
                self.by_host.setdefault(after.host, set()).add(key)
                self._log.append(key)
        if len(self._log) > 2 * LOG_LENGTH:
            self._log_start += LOG_LENGTH
            del self._log[:LOG_LENGTH]

    def _state(self, key: str, node: Node) -> HostState:
        host, report = node.state.host, node.state.report
        provider, service = self._providers.get(key), self._cells.service_of(node)
        waiting = [one for one in self._pending.get(key, ()) if one.key == key]
        headrooms = self._headrooms(provider) if provider else {}
        inside = self._aggregates.get(host, ())
        zone = next((group.availability_zone for group in inside if group.availability_zone), self._default_zone)
        return HostState(
            key=key,
            host=host,
            node=report.node,
            cell_id=node.cell_id,
            provider_id=provider.id if provider else 0,
            headrooms=headrooms,
            traits=provider.traits if provider else frozenset(),
            placement_aggregates=provider.aggregates if provider else frozenset(),
            aggregates=inside,
            availability_zone=zone,
            absent=self._absence(node, provider, service),
            up=service is not None and self._is_up(service),
            disabled=service is None or service.disabled,
            num_instances=(provider.consumers if provider else 0) + len(waiting),
            num_io_ops=self._cells.io_ops_of(node) + len(waiting),
            failed_builds=_number(report.stats.get("failed_builds")),
            hypervisor_type=report.hypervisor_type,
            hypervisor_version=report.hypervisor_version,
            host_ip=report.host_ip,
            memory_mib=report.memory_mib,
            vcpus=report.vcpus,
            local_gib=report.local_gib,
            supported_instances=report.supported_instances,
            cpu_info=report.cpu_info,
            stats=report.stats,
            abilities=report.abilities,
            tree=self._trees.of(provider, self._headrooms) if provider else None,
            tie=before.tie if (before := self.hosts.get(key)) else zlib.crc32(key.encode()),
        )

    def _headrooms(self, provider: ProviderState) -> Mapping[str, Inventory]:
        """The provider's inventories, with the claims that are being made."""
        return _with_pending(provider.uuid, provider.inventories, self._pending.get(provider.uuid, ()))

    def _absence(self, node: Node, provider: ProviderState | None, service: ServiceState | None) -> str | None:
        trouble = self._cells.trouble_of(node.cell_id)
        if trouble is not None:
            return trouble
        if self._mapped.get(node.state.host) != node.cell_id:
            return "is not mapped to its cell"
        if service is None:
            return "has no compute service"
        return "has no resource provider" if provider is None else None

    def _is_up(self, service: ServiceState) -> bool:
        unreachable = (self._cloud.clock.now() - service.seen_at).total_seconds()
        return not service.forced_down and unreachable <= self._down_seconds

    def _is_unheard(self, key: str, service: ServiceState) -> bool:
        state = self.hosts.get(key)
        return state is not None and state.absent is None and not (state.up or state.disabled or service.forced_down)

    def _flipped(self, state: HostState) -> bool:
        node = self._cells.nodes.get(state.key)
        service = self._cells.service_of(node) if node is not None else None
        return service is not None and self._is_up(service) != state.up


def _with_pending(
    uuid: str, inventories: Mapping[str, Inventory], waiting: Iterable[Pending]
) -> Mapping[str, Inventory]:
    used: dict[str, int] = {}
    for pending in waiting:
        for name, amount in pending.allocations.get(uuid, {}).items():
            used[name] = used.get(name, 0) + amount
    if not used:
        return inventories
    return {
        name: replace(inventory, used=inventory.used + used[name]) if name in used else inventory
        for name, inventory in inventories.items()
    }


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isdecimal() else 0
