"""`cell_v2 check`: whether the cells are well and agree with the global database, and mending what can be mended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cell_service.errors import CellMappingNotFound, CellUnavailable, PolycellError
from mapping_db import cell_mappings, host_mappings, host_moves, instance_mappings
from mapping_db.cloud import Cloud
from mapping_db.placement import drift
from mapping_db.placement.drift import Drift, DriftKind
from tools.manage import cell_checks
from tools.manage.cloud import COMMAND_SECONDS
from tools.manage.command import Args, arg, command
from tools.manage.findings import Finding, Level, worst
from tools.manage.named_cells import HELP, the_one
from tools.manage.out import Out
from tools.manage.probes import CellProbe, probe, reason_of
from tools.manage.row_checks import RowChecks, unplaced
from tools.manage.tables import colored

UNKNOWN = 127


@command("cell_v2 check", arg("--cell", metavar="CELL", help=f"only this cell: {HELP}"),
         arg("--timeout", type=float, default=5.0, metavar="SECONDS", help="for all cells to answer"),
         arg("--quick", flag=True, help="do not compare the rows of instances"),
         arg("--repair", flag=True, help="mend what can be mended"),
         arg("--dry-run", flag=True, help="with --repair: only show what would be done"))  # fmt: skip
def check(cloud: Cloud, args: Args, out: Out) -> int:
    """Check every cell's database, queue, schema and clock, which cell the database belongs to, hosts, and of each
    instance its mapping, row and allocation. A cell that does not answer is an error, and nothing of it is compared or
    mended. 0 all is well, or was mended; 1 warnings; 2 errors; 127 no such cell."""
    try:
        chosen, findings = find(
            cloud,
            out,
            seconds=args.timeout,
            down_seconds=args.settings.service_down_seconds,
            cell=args.cell,
            quick=args.quick,
        )
    except CellMappingNotFound as error:
        out.warn(str(error))
        return UNKNOWN
    left, mended = _mended(findings, out) if args.repair and not args.dry_run else (findings, [])
    _notify(out, cell_probes=chosen, left=left, mended=mended, showing=args.repair and args.dry_run)
    return int(worst(left))


def find(
    cloud: Cloud, out: Out, *, seconds: float, down_seconds: float, cell: str | None = None, quick: bool = False
) -> tuple[list[CellProbe], list[Finding]]:
    """The cells that were checked, and all that is not well in them. `seconds`: for them to answer. `down_seconds`: a
    host without a heartbeat for so long is down. `cell`: only this one. `quick`: without the rows of instances. Raises
    NoSuchCell, SeveralCells."""
    with cloud.db.connect() as tx:
        mappings = cell_mappings.every(tx)
        hosts = host_mappings.every(tx)
        moving = frozenset(each.host for each in host_moves.every(tx))
        owned = instance_mappings.counts(tx)
    wanted = {the_one(mappings, cell)} if cell else set(mappings)
    cell_probes = probe(cloud, mappings, seconds, down_seconds)
    chosen = [each for each in cell_probes if each.mapping in wanted]
    shown = {each.mapping.shown for each in chosen}
    findings = [*cell_checks.of_cells(cloud, cell_probes), *cell_checks.of_hosts(cloud, cell_probes, hosts, moving)]
    findings = [each for each in findings if not cell or each.cell is None or each.cell in shown]
    if not quick:
        total = sum(3 * owned[each.mapping.id].living for each in chosen if each.mapping.id in owned)
        with out.progress("comparing instances", total) as step:
            if not cell:
                findings += unplaced(cloud)
                findings += _placement(drift.of_nothing(cloud), None)
            for each in chosen:
                findings += _rows(cloud, each, step)
    return chosen, findings


def _rows(cloud: Cloud, each: CellProbe, step: object) -> list[Finding]:
    """The findings of a cell's rows. None for a cell that is down, or whose
    database is another cell's or of another schema: that is reported already."""
    mapping, report = each.mapping, each.report
    if report is None or not report.current or report.identity not in (None, mapping.uuid):
        return []
    assert callable(step)
    findings: list[Finding] = []
    cell = cloud.cells.open(mapping.id)
    try:
        findings.extend(RowChecks(cloud, cell, step).run())
        findings.extend(_placement(drift.of_cell(cloud, cell, COMMAND_SECONDS, step), mapping.shown))
    except CellUnavailable as error:
        text = f"became unreachable while its rows were compared: {reason_of(error)}"
        findings.append(Finding(Level.ERROR, "database", mapping.shown, text))
    return findings


def _placement(found: Iterable[Drift], cell: str | None) -> Iterator[Finding]:
    """Findings of allocations that differ, with the command that mends them."""
    for each in found:
        how = "audit --delete" if each.kind is DriftKind.ORPHAN else f"heal_allocations --instance {each.consumer_uuid}"
        force = " --force" if each.kind in (DriftKind.ELSEWHERE, DriftKind.AMOUNTS) else ""
        yield Finding(Level.WARNING, "placement", cell, f"{each.text}; see polycell-manage placement {how}{force}")


def _mended(findings: list[Finding], out: Out) -> tuple[list[Finding], list[Finding]]:
    """The findings that are left, and those that were mended."""
    left: list[Finding] = []
    mended: list[Finding] = []
    with out.progress("mending", len(findings)) as step:
        for each in findings:
            step(1)
            if each.mend is None:
                left.append(each)
                continue
            try:
                each.mend()
            except PolycellError as error:
                out.warn(f"{each.text}: not mended: {reason_of(error)}")
                left.append(each)
            else:
                mended.append(each)
    return left, mended


def _notify(
    out: Out, *, cell_probes: list[CellProbe], left: list[Finding], mended: list[Finding], showing: bool
) -> None:
    lines = [f"Mended: {_line(each)} ({each.remedy})" for each in mended]
    for each in sorted(left, key=lambda finding: -finding.level):
        remedy = f" (would {each.remedy})" if each.remedy and showing else ""
        mark = " (--repair mends it)" if each.remedy and not showing else ""
        level = colored(each.level.name) if out.color else each.level.name
        lines.append(f"{level}: {_line(each)}{remedy}{mark}")
    if not left:
        lines.append(f"{len(cell_probes)} cells are well.")
    out.value("\n".join(lines), result=worst(left).name.lower(), findings=[each.as_fields() for each in left],
              mended=[each.as_fields() for each in mended],
              cells=[{"name": each.mapping.name or None, "uuid": each.mapping.uuid, "silent": each.report is None}
                     for each in cell_probes])  # fmt: skip


def _line(finding: Finding) -> str:
    return f"{finding.cell + ': ' if finding.cell else ''}{finding.check}: {finding.text}"
