"""`placement sync_aggregates`: the host aggregates as placement's clients see them."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import Connection

from cell_service.context import Deadline
from cell_service.db import compute_nodes
from cell_service.errors import CellUnavailable, PolycellError, ResourceProviderNotFound
from mapping_db import aggregates as host_aggregates
from mapping_db import host_mappings
from mapping_db.cloud import Cloud
from mapping_db.placement import aggregates, providers
from tools.manage.cloud import COMMAND_SECONDS
from tools.manage.command import Args, arg, command
from tools.manage.failures import explained
from tools.manage.out import Out

DONE, UNREACHABLE, FAILED, NO_MAPPING, NO_NODE, NO_PROVIDER = 0, 2, 3, 4, 5, 6


@dataclass(slots=True)
class Changed:
    """How many memberships were added and removed, and the worst exit code."""

    added: int = 0
    removed: int = 0
    code: int = DONE
    lines: list[str] = field(default_factory=list)

    def fail(self, code: int, text: str) -> None:
        self.code = max(self.code, code)
        self.lines.append(text)


@command("placement sync_aggregates",
         arg("--prune", flag=True, help="also take providers out of the aggregates that their hosts are not in"),
         arg("--verbose", flag=True, help="say each change"))  # fmt: skip
def sync_aggregates(cloud: Cloud, args: Args, out: Out) -> int:
    """Put the resource providers of hosts into the aggregates that their hosts are in, for clients of placement; the
    scheduler follows the hosts' own. A host that fails does not keep the others from being done. 0 done; 2 a cell
    does not answer; 3 a provider could not be changed; 4 a host is not mapped; 5 a host has no compute node; 6 a node
    has no provider."""
    with cloud.db.connect() as tx:
        every = host_aggregates.every(tx)
        mapped = {mapping.host: mapping.cell_id for mapping in host_mappings.every(tx)}
    inside: dict[str, set[str]] = {host: set() for host in mapped} if args.prune else {}
    for aggregate in every:
        for host in aggregate.hosts:
            inside.setdefault(host, set()).add(aggregate.uuid)
    changed, ours = Changed(), {aggregate.uuid for aggregate in every}
    nodes = _nodes(cloud, {mapped[host] for host in inside if host in mapped}, changed)
    for host, wanted in sorted(inside.items()):
        if host not in mapped:
            changed.fail(NO_MAPPING, f"Host {host} is not mapped to a cell.")
            continue
        if mapped[host] in nodes and host not in nodes[mapped[host]]:
            changed.fail(NO_NODE, f"Host {host} has no compute node.")
        for uuid in nodes.get(mapped[host], {}).get(host, ()):
            _put(cloud, host, uuid, wanted, ours if args.prune else set(), changed)
    for line in changed.lines:
        out.warn(line)
    if args.verbose or not changed.lines:
        out.say(f"{changed.added} memberships were added, {changed.removed} removed.")
    return changed.code


def _nodes(cloud: Cloud, cells: set[int], changed: Changed) -> dict[int, dict[str, list[str]]]:
    """Of each cell that answers: host → the uuids of its nodes, which are their providers'."""
    found: dict[int, dict[str, list[str]]] = {}
    for cell_id in sorted(cells):
        cell = cloud.cells.open(cell_id)
        try:
            with cell.db.connect(Deadline.after(COMMAND_SECONDS, cloud.clock)) as tx:
                every = compute_nodes.list_all(tx)
        except CellUnavailable as error:
            changed.fail(UNREACHABLE, explained(error))
            continue
        hosts = found.setdefault(cell_id, {})
        for node in every:
            hosts.setdefault(node.host, []).append(node.report.uuid)
    return found


def _put(cloud: Cloud, host: str, uuid: str, wanted: set[str], ours: set[str], changed: Changed) -> None:
    """Have the provider in what is wanted, and out of others of ours."""
    now = cloud.clock.now()

    def work(tx: Connection) -> tuple[int, int]:
        provider = providers.hold(tx, uuid)
        have = set(aggregates.of_provider(tx, provider.id))
        target = (have - (ours - wanted)) | wanted
        if target != have:
            aggregates.put(tx, provider, target, None, now)
        return len(target - have), len(have - target)

    try:
        added, removed = cloud.db.run(work)
    except ResourceProviderNotFound:
        changed.fail(NO_PROVIDER, f"Compute node {uuid} of host {host} has no resource provider.")
    except PolycellError as error:
        changed.fail(FAILED, f"Provider {uuid} of host {host}: {explained(error)}")
    else:
        changed.added += added
        changed.removed += removed
