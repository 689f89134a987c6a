"""Placement over HTTP, as a cell's hosts and conductors use it.

Writes have the generation that was read; when another client was faster, what to write is computed again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from cell_service.context import Context
from cell_service.errors import (
    Conflict,
    GenerationConflict,
    InventoryExceeded,
    PeerUnavailable,
    PlacementNameTaken,
    ResourceProviderInUse,
)
from cell_service.model.host import NodeReport
from cell_service.peers.placement import Placement
from cell_service.peers.session import Peer, Reply
from cell_service.peers.settings import PlacementSettings

log = logging.getLogger(__name__)

VERSION = "1.36"
ATTEMPTS = 6
DISABLED = "COMPUTE_STATUS_DISABLED"
_CONCURRENT = "placement.concurrent_update"
T = TypeVar("T")


def open_placement(settings: PlacementSettings) -> Placement:
    """Placement as `[placement]` names it; nothing is connected yet."""
    return PlacementHttp(Peer("placement", settings, headers={"OpenStack-API-Version": f"placement {VERSION}"}))


class PlacementHttp:
    """The Placement API at microversion 1.36 (OpenStack Train and later)."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def report(self, ctx: Context, node: NodeReport) -> None:
        self._ensure_provider(ctx, node)
        _again(lambda: self._put_inventories(ctx, node))
        wanted = set(node.traits)
        for name in sorted(wanted):
            if name.startswith("CUSTOM_"):
                _demand(self._peer.ask(ctx, "PUT", f"/traits/{name}"))
        _again(lambda: self._put_traits(ctx, node.uuid, lambda has: wanted | {name for name in has if _is_kept(name)}))

    def set_disabled(self, ctx: Context, provider_uuid: str, disabled: bool) -> None:
        change = (lambda has: has | {DISABLED}) if disabled else (lambda has: has - {DISABLED})
        _again(lambda: self._put_traits(ctx, provider_uuid, change))

    def allocations_of(self, ctx: Context, consumer_uuid: str) -> dict[str, dict[str, int]]:
        found = _demand(self._peer.ask(ctx, "GET", f"/allocations/{consumer_uuid}"))
        return _resources(found["allocations"])

    def consumers_on(self, ctx: Context, provider_uuid: str) -> dict[str, dict[str, int]]:
        reply = self._peer.ask(ctx, "GET", f"/resource_providers/{provider_uuid}/allocations")
        return {} if reply.status == 404 else _resources(_demand(reply)["allocations"])

    def move(
        self,
        ctx: Context,
        consumer_uuid: str,
        allocations: dict[str, dict[str, int]],
        project_id: str,
        user_id: str,
    ) -> None:
        if not allocations:
            self.release(ctx, consumer_uuid)
            return

        def write() -> None:
            path = f"/allocations/{consumer_uuid}"
            now = _demand(self._peer.ask(ctx, "GET", path))
            if _resources(now["allocations"]) == allocations:
                return
            body = {
                "allocations": {uuid: {"resources": resources} for uuid, resources in allocations.items()},
                "consumer_generation": now.get("consumer_generation"),
                "project_id": project_id,
                "user_id": user_id,
            }
            reply = self._peer.ask(ctx, "PUT", path, body=body)
            if reply.status in (400, 409) and _code(reply) != _CONCURRENT:
                first, resources = next(iter(allocations.items()))
                classes = ",".join(sorted(resources))
                raise InventoryExceeded(resource_class=classes, provider=first, reason=_detail(reply))
            _demand(reply, "consumer", consumer_uuid)

        _again(write)

    def release(self, ctx: Context, consumer_uuid: str) -> None:
        reply = self._peer.ask(ctx, "DELETE", f"/allocations/{consumer_uuid}")
        if reply.status != 404:
            _demand(reply)

    def delete_provider(self, ctx: Context, provider_uuid: str) -> None:
        reply = self._peer.ask(ctx, "DELETE", f"/resource_providers/{provider_uuid}")
        if reply.status == 409:
            raise ResourceProviderInUse(uuid=provider_uuid)
        if reply.status != 404:
            _demand(reply)

    def _ensure_provider(self, ctx: Context, node: NodeReport) -> None:
        """Make the provider with the node's uuid and name, if there is none. Raises PlacementNameTaken."""
        path = f"/resource_providers/{node.uuid}"
        reply = self._peer.ask(ctx, "GET", path)
        if reply.ok and reply.json["name"] == node.node:
            return
        if reply.status == 404:
            reply = self._peer.ask(ctx, "POST", "/resource_providers", body={"uuid": node.uuid, "name": node.node})
            if reply.status == 409 and self._peer.ask(ctx, "GET", path).ok:
                return
        elif reply.ok:
            reply = self._peer.ask(ctx, "PUT", path, body={"name": node.node})
        if reply.status == 409:
            raise PlacementNameTaken(what="resource provider", name=node.node)
        _demand(reply)

    def _put_inventories(self, ctx: Context, node: NodeReport) -> None:
        path = f"/resource_providers/{node.uuid}/inventories"
        now = _demand(self._peer.ask(ctx, "GET", path))
        others = {name: stock for name, stock in now["inventories"].items() if name not in _OURS}
        wanted = others | _inventories(node)
        if _same_stock(now["inventories"], wanted):
            return
        body = {"resource_provider_generation": now["resource_provider_generation"], "inventories": wanted}
        _demand(self._peer.ask(ctx, "PUT", path, body=body), "resource provider", node.uuid)

    def _put_traits(self, ctx: Context, provider_uuid: str, change: Callable[[set[str]], set[str]]) -> None:
        path = f"/resource_providers/{provider_uuid}/traits"
        now = _demand(self._peer.ask(ctx, "GET", path))
        has = set(now["traits"])
        wanted = change(has)
        if wanted == has:
            return
        body = {"resource_provider_generation": now["resource_provider_generation"], "traits": sorted(wanted)}
        _demand(self._peer.ask(ctx, "PUT", path, body=body), "resource provider", provider_uuid)


_OURS = ("VCPU", "MEMORY_MB", "DISK_GB")


def _inventories(node: NodeReport) -> dict[str, dict[str, Any]]:
    stocks = {
        "VCPU": (node.vcpus, node.reserved_vcpus, node.cpu_allocation_ratio),
        "MEMORY_MB": (node.memory_mib, node.reserved_memory_mib, node.ram_allocation_ratio),
        "DISK_GB": (node.local_gib, node.reserved_disk_gib, node.disk_allocation_ratio),
    }
    return {
        name: {
            "total": total,
            "reserved": min(reserved, total),
            "min_unit": 1,
            "max_unit": total,
            "step_size": 1,
            "allocation_ratio": ratio,
        }
        for name, (total, reserved, ratio) in stocks.items()
        if total > 0
    }


def _same_stock(one: dict[str, dict[str, Any]], other: dict[str, dict[str, Any]]) -> bool:
    if one.keys() != other.keys():
        return False
    return all(one[name].get(key) == value for name, stock in other.items() for key, value in stock.items())


def _is_kept(trait: str) -> bool:
    return trait.startswith("CUSTOM_") or trait == DISABLED


def _resources(allocations: dict[str, Any]) -> dict[str, dict[str, int]]:
    return {uuid: dict(part["resources"]) for uuid, part in allocations.items()}


def _again(work: Callable[[], T]) -> T:
    """Do the work, and again while other clients are faster. Raises GenerationConflict after ATTEMPTS times."""
    for _ in range(ATTEMPTS - 1):
        try:
            return work()
        except GenerationConflict:
            continue
    return work()


def _demand(reply: Reply, what: str = "", uuid: str = "") -> dict[str, Any]:
    """The content of a good answer. Raises GenerationConflict, Conflict, PeerUnavailable."""
    if reply.ok:
        return reply.json if isinstance(reply.json, dict) else {}
    if reply.status == 409:
        if _code(reply) == _CONCURRENT:
            raise GenerationConflict(what=what, uuid=uuid)
        raise Conflict(reason=_detail(reply))
    log.warning("placement answered %s: %s", reply.status, _detail(reply))
    raise PeerUnavailable(service="placement", reason=f"it answered {reply.status}")


def _first(reply: Reply) -> dict[str, Any]:
    try:
        return dict(reply.json["errors"][0])
    except (KeyError, IndexError, TypeError, ValueError):
        return {}


def _code(reply: Reply) -> str:
    return str(_first(reply).get("code", ""))


def _detail(reply: Reply) -> str:
    return str(_first(reply).get("detail", ""))
