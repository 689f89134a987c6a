"""What a host has, reported to its cell and to placement; and allocations that outlived their instances, removed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from cell_service.context import Context
from cell_service.logs import about
from cell_service.model.host import NodeReport
from cell_service.peers.placement import Placement
from compute_host.cell_link import CellLink
from compute_host.virt.driver import Driver

log = logging.getLogger(__name__)


class Tracker:
    """Of one host. Remembers what it has reported, so that nothing is reported twice without need."""

    def __init__(self, host: str, driver: Driver, placement: Placement | None, link: CellLink) -> None:
        self._host, self._driver, self._placement, self._link = host, driver, placement, link
        self._reported: dict[str, NodeReport] = {}
        self._provided: dict[str, NodeReport] = {}
        self._disabled: bool | None = None

    def forget_reports(self) -> None:
        """The host belongs to another cell now, which knows nothing of it yet."""
        self._reported = {}

    def news(self) -> tuple[NodeReport, ...]:
        """The nodes whose report differs from what was reported to the cell last. Raises DriverError."""
        return tuple(node for node in self._driver.nodes() if self._reported.get(node.uuid) != _timeless(node))

    def reported(self, nodes: tuple[NodeReport, ...]) -> None:
        """The cell knows these."""
        self._reported |= {node.uuid: _timeless(node) for node in nodes}

    def provide(self, ctx: Context, *, disabled: bool, whole: bool) -> None:
        """Make placement's providers what the nodes are; `whole`: even if nothing has changed since the last time.
        Raises DriverError, PeerUnavailable, Conflict."""
        if self._placement is None:
            return
        for node in self._driver.nodes():
            bare = _unused(node)
            if whole or self._provided.get(node.uuid) != bare:
                self._placement.report(ctx, node)
                self._provided[node.uuid] = bare
            if self._disabled is not disabled and (disabled or self._disabled is not None or whole):
                self._placement.set_disabled(ctx, node.uuid, disabled)
        self._disabled = disabled

    def heal(self, ctx: Context, busy: Callable[[], set[str]]) -> int:
        """Release what placement holds here for instances that the cell knows to be deleted. Answers how many.

        An instance that the cell does not know is left alone: absence proves nothing.
        """
        if self._placement is None:
            return 0
        healed = 0
        for node in self._driver.nodes():
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
    """The node without what its guests use: all that placement needs to know."""
    return replace(
        node, vcpus_used=0, memory_mib_used=0, local_gib_used=0, running_vms=0, disk_available_least_gib=None,
        stats={}, uptime=None,
    )  # fmt: skip


def _timeless(node: NodeReport) -> NodeReport:
    """The node without what changes all the time and means nothing."""
    return node if node.uptime is None else replace(node, uptime=None)
