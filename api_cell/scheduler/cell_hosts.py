"""The hosts of all cells, polled again and again."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from api_cell.scheduler.intern import Interned
from cell_service.context import Deadline
from cell_service.db import host_states
from cell_service.db.host_states import CellState, NodeState, ServiceState
from cell_service.errors import PolycellError
from cell_service.logs import about
from mapping_db.cells.registry import Cell, CellMapping, Gathered
from mapping_db.cloud import Cloud

log = logging.getLogger(__name__)

PRESENT_SECONDS = 60.0
"""How often a cell is polled for hosts that are gone."""
OVERLAP = timedelta(seconds=10)
"""How far the clocks of a cell's conductors may lie apart."""


@dataclass(frozen=True, slots=True)
class Node:
    cell_id: int
    state: NodeState


@dataclass(slots=True)
class CellView:
    """The known state of a cell. `since`: the newest change that was read; `trouble`: why its hosts are absent."""

    since: datetime | None = None
    present_at: float = float("-inf")
    trouble: str | None = "is in a cell that has not answered yet"
    services: dict[str, ServiceState] = field(default_factory=dict)
    io_ops: dict[str, int] = field(default_factory=dict)
    keys: dict[str, set[str]] = field(default_factory=dict)
    """Host → keys of its nodes."""

    def all_keys(self) -> set[str]:
        return {key for keys in self.keys.values() for key in keys}


@dataclass(frozen=True, slots=True)
class Polled:
    """The result of one poll of all cells."""

    mappings: dict[int, CellMapping]
    gathered: Gathered[CellState]
    at: float


class CellHosts:
    """Nodes and services by cell. `poll` may run while others read; `take` only under their lock."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.cells: dict[int, CellView] = {}
        self._interned = Interned()

    def poll(self, cloud: Cloud, deadline: Deadline) -> Polled:
        """Read every cell that is not disabled, by the deadline."""
        now = cloud.clock.monotonic()
        mappings = {mapping.id: mapping for mapping in cloud.cells.all() if not mapping.is_cell0}
        views = {cell_id: self.cells.get(cell_id) or CellView() for cell_id in mappings}

        def work(cell: Cell) -> CellState:
            view = views[cell.mapping.id]
            since = view.since - OVERLAP if view.since is not None else None
            known = {key: self.nodes[key].state.changed_at for key in view.all_keys() if key in self.nodes}
            with cell.db.connect(deadline) as tx:
                return host_states.read(tx, since, known, whole=now - view.present_at >= PRESENT_SECONDS)

        requested = [cell_id for cell_id, mapping in mappings.items() if not mapping.disabled]
        return Polled(mappings, cloud.cells.scatter(requested, work, deadline), now)

    def take(self, polled: Polled) -> set[str]:
        """Take over what a poll has read. Answers the keys of the nodes that may have changed."""
        touched: set[str] = set()
        for cell_id in self.cells.keys() - polled.mappings.keys():
            touched |= self._drop(cell_id, self.cells.pop(cell_id).all_keys())
        for cell_id, mapping in polled.mappings.items():
            view = self.cells.setdefault(cell_id, CellView())
            answer = polled.gathered.answers.get(cell_id)
            if answer is not None:
                touched |= self._answered(mapping, view, answer, polled.at)
            else:
                touched |= self._unreachable(view, mapping, polled.gathered.failures.get(cell_id))
        return touched

    def service_of(self, node: Node) -> ServiceState | None:
        view = self.cells.get(node.cell_id)
        return view.services.get(node.state.host) if view is not None else None

    def trouble_of(self, cell_id: int) -> str | None:
        view = self.cells.get(cell_id)
        return view.trouble if view is not None else "is in a cell that is gone"

    def io_ops_of(self, node: Node) -> int:
        view = self.cells.get(node.cell_id)
        return view.io_ops.get(node.state.host, 0) if view is not None else 0

    def add_io_op(self, key: str) -> None:
        """Count a build on the node, which the cell has not reported yet."""
        node = self.nodes.get(key)
        if node is not None and node.cell_id in self.cells:
            busy = self.cells[node.cell_id].io_ops
            busy[node.state.host] = busy.get(node.state.host, 0) + 1

    def _answered(self, mapping: CellMapping, view: CellView, state: CellState, now: float) -> set[str]:
        touched: set[str] = set()
        cell_id = mapping.id
        if view.trouble is not None:
            log.info("hosts of a cell are known", extra=about(None, cell=mapping.shown, nodes=len(state.nodes)))
            view.trouble = None
            touched |= view.all_keys()
        for node in state.nodes:
            key = node.report.uuid
            self.nodes[key] = Node(cell_id, replace(node, report=self._interned.report(node.report)))
            view.keys.setdefault(node.host, set()).add(key)
            touched.add(key)
        if state.present is not None:
            view.present_at = now
            touched |= self._drop(cell_id, view.all_keys() - state.present)
            present = {service.host for service in state.services}
            gone = view.services.keys() - present
            view.services = {host: service for host, service in view.services.items() if host in present}
            touched |= _keys_of(view, gone)
        changed = {service.host for service in state.services if view.services.get(service.host) != service}
        view.services |= {service.host: service for service in state.services}
        busy = {host for host, _ in view.io_ops.items() ^ state.io_ops.items()}
        view.io_ops = dict(state.io_ops)
        moments = [node.changed_at for node in state.nodes] + [service.changed_at for service in state.services]
        view.since = max([*moments, view.since] if view.since is not None else moments, default=None)
        return touched | _keys_of(view, changed | busy)

    def _unreachable(self, view: CellView, mapping: CellMapping, failure: PolycellError | None) -> set[str]:
        trouble = "is in a cell that is disabled" if mapping.disabled else "is in a cell that does not answer"
        if view.trouble == trouble:
            return set()
        log.warning("hosts of a cell are left out", extra=about(None, cell=mapping.shown, reason=failure or trouble))
        view.trouble = trouble
        return view.all_keys()

    def _drop(self, cell_id: int, keys: Iterable[str]) -> set[str]:
        """Remove the nodes that the cell has no more. A node that has moved to another cell is that cell's, which is
        read again."""
        dropped = set(keys)
        if cell_id in self.cells:
            for known in self.cells[cell_id].keys.values():
                known -= dropped
        for key in dropped:
            for view in self.cells.values():
                if any(key in known for known in view.keys.values()):
                    view.since = None
            if key in self.nodes and self.nodes[key].cell_id == cell_id:
                del self.nodes[key]
        return dropped


def _keys_of(view: CellView, hosts: Iterable[str]) -> set[str]:
    return {key for host in hosts for key in view.keys.get(host, ())}
