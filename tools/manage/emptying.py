"""`cell_v2 drain_host` and `evacuate_host`: a host without servers."""

from __future__ import annotations

from functools import partial

from api_cell.contract import SuperConductor
from api_cell.hosts.change import change_service
from api_cell.servers.moves.emptying import CONCURRENT, Emptying, EmptyingRequest, servers_on
from cell_service.context import internal
from cell_service.db import services
from cell_service.errors import (
    CellUnavailable,
    Conflict,
    HostMappingNotFound,
    Invalid,
    PolycellError,
    ServiceNotFound,
)
from cell_service.rpc.contract import client
from mapping_db import host_mappings
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud
from tools.manage.cloud import COMMAND_SECONDS
from tools.manage.command import Args, arg, command
from tools.manage.confirming import DRY_RUN, YES, confirm
from tools.manage.failures import explained
from tools.manage.out import Out
from tools.manage.probes import reason_of

_PING_SECONDS = 10.0
_OPTIONS = (
    arg("--host", required=True, metavar="HOST", help="a compute host"),
    arg("--to", metavar="HOST", help="the host that takes the servers; none: the scheduler chooses"),
    arg("--cross-cell", flag=True, help="hosts of other cells may take what the own cell has no capacity for"),
    arg("--parallel", type=int, default=CONCURRENT, metavar="N", help="moves at a time"),
    arg("--wait", type=float, default=3600.0, metavar="SECONDS", help="how long to watch"),
    DRY_RUN,
)


@command("cell_v2 drain_host", *_OPTIONS,
         arg("--cold", flag=True, help="running servers are moved off, too"),
         arg("--enabled", flag=True, help="don't disable the host's service first"))  # fmt: skip
def drain_host(cloud: Cloud, args: Args, out: Out) -> int:
    """Move all servers to other hosts: running ones while they run, stopped ones off. The host's compute service is
    disabled first. Run again, it goes on. 0 empty; 1 no such host, its cell does not answer, or the host (or the one
    that --to names) is down; 2 servers are left."""
    return _empty(cloud, args, out, evacuate=False)


@command("cell_v2 evacuate_host", *_OPTIONS,
         arg("--force-down", flag=True, help="declare the host dead first: make sure that it is"), YES)  # fmt: skip
def evacuate_host(cloud: Cloud, args: Args, out: Out) -> int:
    """Build all servers of a dead host again on other hosts. Run again, it goes on. 0 empty; 1 no such host, its cell
    does not answer, or the host is up; 2 servers are left."""
    return _empty(cloud, args, out, evacuate=True)


def _empty(cloud: Cloud, args: Args, out: Out, *, evacuate: bool) -> int:
    ctx = internal(cloud.clock, seconds=COMMAND_SECONDS)
    try:
        cell = _cell_of(cloud, args.host)
        if not evacuate:
            _demand_up(cloud, cell, args, args.host, DrainedHostDown)
        if args.to:
            _demand_up(cloud, _cell_of(cloud, args.to), args, args.to, DestinationDown)
        if evacuate and not args.force_down:
            _demand_down(cloud, cell, args)
        servers = servers_on(cell, args.host, ctx)
        if args.dry_run:
            columns = ("UUID", "Name", "VM State", "Task State")
            rows = [(one.uuid, one.display_name, one.vm_state.value, one.task_state) for one in servers]
            out.table(columns, rows)
            first = "be declared dead; then " if evacuate and args.force_down else ""
            out.say(f"Host {args.host} would {first}lose {_counted(len(servers))} to other hosts.")
            return 0
        if evacuate:
            _confirm(args, out, len(servers))
        _prepare(cloud, cell, args, evacuate=evacuate)
    except (HostMappingNotFound, ServiceNotFound, CellUnavailable, Conflict, Invalid) as error:
        out.warn(explained(error))
        return 1
    wanted = EmptyingRequest(
        evacuate=evacuate,
        live=evacuate or not args.cold,
        to=args.to,
        cross_cell=args.cross_cell or args.to is not None,
        at_once=max(1, args.parallel),
        seconds=args.wait,
    )
    with out.progress(f"emptying {args.host}", len(servers)) as step:

        def reported(uuid: str, reason: str) -> None:
            if reason:
                out.warn(f"{uuid}: {reason}")
            step(1)

        emptying = Emptying(cloud, ctx, client(SuperConductor, cloud.bus), wanted, reported)
        try:
            result = emptying.run(cell, args.host)
        except CellUnavailable as error:
            out.warn(f"{explained(error)} Run the command again to go on.")
            return 1
    verb = "has" if len(result.moved) == 1 else "have"
    text = f"{_counted(len(result.moved))} {verb} left {args.host}, {len(result.left)} stayed."
    out.value(text, moved=result.moved, left=result.left)
    return 2 if result.left else 0


def _confirm(args: Args, out: Out, servers: int) -> None:
    first = f"declares host {args.host} dead and " if args.force_down else ""
    what = f"This {first}builds {_counted(servers)} of {args.host} again on other hosts. Be sure that it is dead."
    confirm(args, out, what, args.host)


def _counted(servers: int) -> str:
    return "1 server" if servers == 1 else f"{servers} servers"


class DrainedHostDown(Conflict):
    """The servers of a host that is down cannot be moved: its agent would have to send them."""

    message = (
        "Host {host} is down, so that its servers cannot be moved off it. Once it is certainly dead, `cell_v2 "
        "evacuate_host --host {host}` builds them again on other hosts."
    )


class DestinationDown(Conflict):
    message = "Host {host}, which is to take the servers, is down."


def _demand_up(cloud: Cloud, cell: Cell, args: Args, host: str, otherwise: type[Conflict]) -> None:
    """Raises `otherwise`, and ServiceNotFound."""
    with cell.db.connect(internal(cloud.clock, seconds=30).deadline) as tx:
        service = services.by_host(tx, host, services.COMPUTE)
    if not service.is_up(cloud.clock.now(), args.settings.service_down_seconds):
        raise otherwise(host=host)


def _demand_down(cloud: Cloud, cell: Cell, args: Args) -> None:
    """Raises Invalid, also when it counts as down only because no host's reports arrive; and ServiceNotFound."""
    with cell.db.connect(internal(cloud.clock, seconds=30).deadline) as tx:
        service = services.by_host(tx, args.host, services.COMPUTE)
    if service.is_up(cloud.clock.now(), args.settings.service_down_seconds):
        raise Invalid(reason=f"Host {args.host} is up; --force-down declares it dead.")
    if service.forced_down:
        return
    try:
        cell.bus.ping(timeout=_PING_SECONDS)
    except PolycellError as error:
        raise Invalid(
            reason=f"The queue of cell {cell.name} does not answer, so that all its hosts count as down, dead or not "
            f"({reason_of(error)}). Once {args.host} is certainly dead, --force-down declares it so."
        ) from None


def _cell_of(cloud: Cloud, host: str) -> Cell:
    with cloud.db.connect() as tx:
        return cloud.cells.open(host_mappings.get(tx, host).cell_id)


def _prepare(cloud: Cloud, cell: Cell, args: Args, *, evacuate: bool) -> None:
    """Disable a host that is drained; declare one dead that `--force-down` evacuates. Raises ServiceNotFound."""
    ctx = internal(cloud.clock, seconds=30)
    with cell.db.connect(ctx.deadline) as tx:
        service = services.by_host(tx, args.host, services.COMPUTE)
    change = partial(change_service, cloud, ctx, cell.mapping.id, service)
    if evacuate and args.force_down:
        change(forced_down=True)
    elif not evacuate and not args.enabled and not service.disabled:
        change(disabled=True, disabled_reason="drained")
