"""The JSON of benchmarks as a table for RESULTS.md.

python -m bench.table show.json list.json boot.json startup.json > bench/RESULTS.md
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Row = tuple[str, str]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Make a table of what benchmarks printed.")
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--title", default="Results")
    args = parser.parse_args(argv)
    try:
        results = [json.loads(Path(name).read_text(encoding="utf-8")) for name in args.files]
        print(table(results, args.title))
    except (OSError, ValueError, KeyError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def table(results: Sequence[dict[str, Any]], title: str) -> str:
    """One table in Markdown. Raises KeyError for a result that no benchmark here gives."""
    rows = [row for result in results for row in _ROWS[result["bench"]](result)]
    return "\n".join([f"# {title}", "", "| What | Figures |", "| --- | --- |", *(f"| {a} | {b} |" for a, b in rows)])


def _show(result: dict[str, Any]) -> list[Row]:
    return [
        (f"show, {run['concurrency']} at once",
         f"{run['per_second']}/s, p50 {run['p50_ms']} ms, p99 {run['p99_ms']} ms, {run['errors']} errors")
        for run in result["runs"]
    ]  # fmt: skip


def _list(result: dict[str, Any]) -> list[Row]:
    rows = []
    for run in result["runs"]:
        floors = f"bare SQL {run['floor_ms']} ms, slowest cell {run['slowest_cell_ms']} ms"
        figures = f"{run['list_ms']} ms; {floors}; ratio {run['ratio_to_floor']}"
        rows.append((f"list of {run['limit']} over {run['cells']} cells", figures))
    return rows


def _boot(result: dict[str, Any]) -> list[Row]:
    rows = []
    for run in result["runs"]:
        posts = "one POST" if run["variant"] == "one" else "a POST each"
        rate = run["accept"].get("servers_per_second", run["accept"]["per_second"])
        done = f"all done in {run['all_done_seconds']} s (p50 {run['active_p50_seconds']} s)"
        left = f"{run['active']} ACTIVE, {run['error']} ERROR, {run['unfinished']} unfinished"
        rows.append((f"boot {run['burst']}, {posts}", f"accepted {rate}/s, {done}, {left}"))
        if gone := run["delete"]:
            ended = f"all gone in {gone['all_gone_seconds']} s, {gone['errors']} errors"
            rows.append((f"delete {run['burst']}", f"accepted {gone['per_second']}/s, {ended}"))
    return rows


def _startup(result: dict[str, Any]) -> list[Row]:
    ready = f"{result['ready_seconds_empty']} s empty, {result['ready_seconds_prepared']} s prepared"
    rows = [("start to READY", ready)]
    for each in result["processes"]:
        where = " ".join(str(part) for part in (each["role"], each["cell"], each["host"]) if part)
        rows.append((f"idle {where}", f"RSS {each['rss_mib']} MiB, PSS {each['pss_mib']} MiB, CPU {each['cpu_share']}"))
    return rows


def _micro(result: dict[str, Any]) -> list[Row]:
    return [(run["what"], f"{run['p50_us']} µs, p99 {run['p99_us']} µs") for run in result["runs"]]


def _host(result: dict[str, Any]) -> list[Row]:
    spawn, burst, verbs, volumes = result["spawn"], result["at_once"], result["verbs"], result["volumes"]
    bare = f"libvirt's define and start {spawn['define_and_start_p50_ms']} ms"
    return [
        ("spawn with a cached image, p50", f"{spawn['whole_p50_ms']} ms; {bare}; ours {spawn['ours_p50_ms']} ms"),
        (f"{burst['spawns']} spawns at once on {burst['hosts']} hosts", f"all done in {burst['all_done_seconds']} s"),
        *((name.removesuffix("_ms").replace("_", " "), f"{value} ms") for name, value in verbs.items()),
        *(
            (f"{verb} a volume, p50", f"{volumes[f'{verb}_p50_ms']} ms, most {volumes[f'{verb}_max_ms']} ms")
            for verb in ("attach", "detach")
        ),
        *(
            (
                f"an agent's libvirt driver, {guests} guests",
                f"RSS {idle['rss_mib']} MiB, PSS {idle['pss_mib']} MiB, CPU {idle['cpu_percent']} %",
            )
            for guests, idle in result["idle"].items()
        ),
    ]


def _consoles(result: dict[str, Any]) -> list[Row]:
    opened = result["memory_open"]
    return [
        ("a serial console", f"{result['to_user_mb_s']} MB/s to the user, {result['to_guest_mb_s']} MB/s to the guest"),
        (
            f"a proxy with {result['consoles']} open consoles",
            f"RSS {opened['rss_mib']} MiB, PSS {opened['pss_mib']} MiB",
        ),
    ]


_ROWS: dict[str, Callable[[dict[str, Any]], list[Row]]] = {
    "show": _show, "list": _list, "boot": _boot, "startup": _startup, "micro": _micro, "host": _host,
    "consoles": _consoles,
}  # fmt: skip

if __name__ == "__main__":
    sys.exit(main())
