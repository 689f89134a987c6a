"""From `polycell up` to READY, on an empty and on a prepared directory; and what idle processes take.

python -m bench.startup [--cells 2] [--hosts-per-cell 10] [--idle-seconds 10] [-- further options of polycell up]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import target

TICKS = os.sysconf("SC_CLK_TCK")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Start a cloud, and measure what it takes.")
    parser.add_argument("--cells", type=int, default=2)
    parser.add_argument("--hosts-per-cell", type=int, default=10)
    parser.add_argument("--port-base", type=int, default=28700)
    parser.add_argument("--idle-seconds", type=float, default=10.0)
    parser.add_argument("--give-up", type=float, default=180.0, metavar="SECONDS")
    parser.add_argument("--out", metavar="FILE", help="write the JSON here too")
    parser.add_argument("further", nargs="*", help="further options of polycell up, after --")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="polycell-bench-") as directory:
        state = Path(directory) / "state"
        try:
            first = _up(state, args)
            _down(state, args)
            prepared = _up(state, args)
            try:
                processes = _idle(state, args.idle_seconds)
            finally:
                _down(state, args)
        except target.Unusable as error:
            print(error, file=sys.stderr)
            return 1
    target.emit(
        {"bench": "startup", "cells": args.cells, "hosts_per_cell": args.hosts_per_cell, "options": args.further,
         "ready_seconds_empty": first, "ready_seconds_prepared": prepared, "idle_seconds": args.idle_seconds,
         "processes": processes},
        args.out,
    )  # fmt: skip
    return 0


def _up(state: Path, args: Any) -> float:
    """Seconds until READY was printed."""
    words = ["up", "--state", str(state), "--cells", str(args.cells), "--hosts-per-cell", str(args.hosts_per_cell),
             "--port-base", str(args.port_base), "--driver", "simulated", "--detach", *args.further]  # fmt: skip
    begun = time.perf_counter()
    ran = _polycell(words, args.give_up)
    seconds = time.perf_counter() - begun
    if ran.returncode or not any(line.startswith("READY") for line in ran.stdout.splitlines()):
        raise target.Unusable(f"polycell up ended with {ran.returncode}: {ran.stderr.strip()[-500:]}")
    return round(seconds, 3)


def _down(state: Path, args: Any) -> None:
    ran = _polycell(["down", "--state", str(state)], args.give_up)
    if ran.returncode:
        raise target.Unusable(f"polycell down ended with {ran.returncode}: {ran.stderr.strip()[-500:]}")


def _polycell(words: Sequence[str], seconds: float) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [sys.executable, "-m", "tools.up.main", *words], capture_output=True, text=True, timeout=seconds
        )
    except subprocess.TimeoutExpired as error:
        raise target.Unusable(f"polycell {words[0]} does not end") from error


def _idle(state: Path, seconds: float) -> list[dict[str, Any]]:
    """Memory of each process, and the share of a processor that it takes while it gets no requests."""
    recorded = json.loads((state / "polycell.json").read_text(encoding="utf-8"))["processes"]
    pids: dict[int, dict[str, Any]] = {}
    for each in recorded:  # in one process all roles have one pid
        known = pids.setdefault(int(each["pid"]), {**each, "role": ""})
        known["role"] = " ".join(dict.fromkeys([*known["role"].split(), str(each.get("role"))]))
        known.update({key: None for key in ("cell", "host") if known.get(key) != each.get(key)})
    before = {pid: cpu_seconds(pid) for pid in pids}
    time.sleep(seconds)
    return [
        {"role": each.get("role"), "cell": each.get("cell"), "host": each.get("host"), **memory(pid),
         "cpu_share": round((cpu_seconds(pid) - before[pid]) / seconds, 4) if seconds else None}
        for pid, each in pids.items()
    ]  # fmt: skip


def memory(pid: int) -> dict[str, float | None]:
    """Resident and proportional set size in MiB; None where the kernel does not report it."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return {"rss_mib": None, "pss_mib": None}
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return {"rss_mib": round(sizes["Rss"] / 1024, 1), "pss_mib": round(sizes["Pss"] / 1024, 1)}


def cpu_seconds(pid: int) -> float:
    """Processor time that the process has used; 0.0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


if __name__ == "__main__":
    sys.exit(main())
