"""A host's resources, reported to its cell and to placement; and removal of allocations of deleted instances."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from cell_service.context import Context
from cell_service.logs import about
from cell_service.model.host import NodeReport
from cell_service.peers.placement import Placement
from compute_host.cell_link import CellLink
from compute_host.virt.abilities import nodes_of
from compute_host.virt.driver import Driver

log = logging.getLogger(__name__)


class Tracker:
    """Reports one host's resources. It remembers what it has reported, so that unchanged reports are not sent again."""

    def __init__(self, host: str, driver: Driver, placement: Placement | None, link: CellLink) -> None:
        self._host, self._driver, self._placement, self._link = host, driver, placement, link
        self._reported: dict[str, NodeReport] = {}
        self._provided: dict[str, NodeReport] = {}
        self._disabled: bool | None = None

    def forget_reports(self) -> None:
        """Report everything again: the host belongs to another cell now, which has no reports of it."""
        self._reported = {}

    def news(self) -> tuple[NodeReport, ...]:
        """The nodes whose report differs from what was reported to the cell last. Raises DriverError."""
        return tuple(node for node in nodes_of(self._driver) if self._reported.get(node.uuid) != _timeless(node))

    def reported(self, nodes: tuple[NodeReport, ...]) -> None:
        """Record that the cell has these reports."""
        self._reported |= {node.uuid: _timeless(node) for node in nodes}

    def provide(self, ctx: Context, *, disabled: bool, whole: bool) -> None:
        """Update placement's providers from the nodes; `whole`: even if nothing has changed since the last time.
        Raises DriverError, PeerUnavailable, Conflict."""
        if self._placement is None:
            return
        for node in nodes_of(self._driver):
            bare = _unused(node)
            if whole or self._provided.get(node.uuid) != bare:
                self._placement.report(ctx, node)
                self._provided[node.uuid] = bare
            if self._disabled is not disabled and (disabled or self._disabled is not None or whole):
                self._placement.set_disabled(ctx, node.uuid, disabled)
        self._disabled = disabled

    def heal(self, ctx: Context, busy: Callable[[], set[str]]) -> int:
        """Release allocations here of instances that the cell knows to be deleted. Returns how many.

        Those of an instance that the cell does not know stay: that proves nothing.
        """
        if self._placement is None:
            return 0
        healed = 0
        for node in nodes_of(self._driver):
            consumers = set(self._placement.consumers_on(ctx, node.uuid))
            if not consumers:
                continue
            here = {instance.uuid for instance in self._link.conductor.instances_on_host(ctx, self._host)}
            strangers = tuple(sorted(consumers - here - busy()))
            gone = self._link.conductor.known_deleted(ctx, strangers) if strangers else ()
            for uuid in gone:
                self._placement.release(ctx, uuid)
                log.warning(
                    "allocation of a deleted instance released", extra=about(ctx, instance=uuid, host=self._host)
                )
            healed += len(gone)
        return healed


def _unused(node: NodeReport) -> NodeReport:
    """The node without its guests' usage: all that placement needs."""
    return replace(
        node, vcpus_used=0, memory_mib_used=0, local_gib_used=0, running_vms=0, disk_available_least_gib=None,
        stats={}, uptime=None,
    )  # fmt: skip


def _timeless(node: NodeReport) -> NodeReport:
    """The node without the values that change all the time, such as its uptime."""
    return node if node.uptime is None else replace(node, uptime=None)
