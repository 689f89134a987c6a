"""`polycell debug`: one file with what a developer must know of a cloud, and none of its secrets."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from cell_service import version
from cell_service.context import SYSTEM_CLOCK
from cell_service.errors import Invalid
from tools.up import bundle, live, record
from tools.up.bundle import Part
from tools.up.redaction import HIDDEN, Redaction, collect

LOG_BYTES = 4 * 2**20
"""The most bytes of each log that are taken, from its end."""
COMMAND_SECONDS = 60.0
_FILES = ("polycell.json", "etc/*.conf", "etc/options.json", "logs/*.log*")


def debug(state: Path, file: Path | None) -> int:
    """Write the bundle, and say where it is and what is not well in it. 0 written. Raises Invalid when there is no
    cloud, or the file cannot be made."""
    if not any((state / name).is_dir() for name in ("etc", "logs")):
        raise Invalid(reason=f"{state} has no cloud: there are neither configuration nor logs")
    now = SYSTEM_CLOCK.now()
    target = file or Path(f"polycell-debug-{now:%Y%m%d-%H%M%S}.tar.gz")
    if target.exists():
        raise Invalid(reason=f"{target} is there already")
    secrets, unreadable = collect(state)
    redaction = Redaction(secrets)
    parts = [_redacted(part, redaction) for part in _gather(state, unreadable)]
    parts.insert(0, Part("index.json", _json(_index(state, now, parts))))
    bundle.write(target, parts, now)
    print(f"{target}: {len(parts)} files; passwords and keys in them are {HIDDEN}. Look through it before you send it.")
    for part in parts:
        if part.note:
            print(f"  {part.file}: {part.note}")
    return 0


def _gather(state: Path, unreadable: dict[Path, str]) -> Iterator[Part]:
    yield Part("versions.json", _json(_versions()))
    yield _command("status.json", "tools.up.main", "status", "-f", "json", "--state", str(state))
    files = [word for name in ("nova", "global") for word in ("--config-file", str(state / "etc" / f"{name}.conf"))]
    yield _command("cells.txt", "tools.manage.main", *files, "cell_v2", "list_cells", "--detail")
    yield _command("check.txt", "tools.manage.main", *files, "cell_v2", "check")
    try:
        document = record.read(state)
        yield Part("processes.json", _json(_processes(document)))
        yield from live.metrics(document)
        yield from live.stacks(document, state / "run" / "reports")
    except (Invalid, KeyError, TypeError) as error:
        missing = ("processes.json", "metrics.txt", "stacks.txt")
        yield from (Part(name, note=f"polycell.json: {error}") for name in missing)
    for path, reason in unreadable.items():
        yield Part(str(path.relative_to(state)), note=f"left out, for its secrets are not known: {reason}")
    for pattern in _FILES:
        for path in sorted(set(state.glob(pattern)) - unreadable.keys()):
            yield _file(str(path.relative_to(state)), path)


def _versions() -> dict[str, Any]:
    return {
        "polycell": version.installed(),
        "python": sys.version,
        "system": platform.platform(),
        "processors": os.cpu_count(),
        "packages": dict(sorted({each.name: each.version for each in distributions()}.items())),
    }


def _command(file: str, module: str, *words: str) -> Part:
    """The output of one of our commands."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", module, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            timeout=COMMAND_SECONDS,
            env={**os.environ, "COLUMNS": "200"},
        )
    except subprocess.TimeoutExpired:
        return Part(file, note=f"the command did not end within {COMMAND_SECONDS:.0f} s")
    return Part(file, done.stdout, f"exit code {done.returncode}" if done.returncode else "")


def _processes(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Each process that was recorded, the services in it, and what the kernel knows of it."""
    launcher = [document["launcher"]] if document["launcher"] else []
    alive = {each.pid for each in record.living(document)}
    found: dict[int, dict[str, Any]] = {}
    for each in (*launcher, *document["processes"]):
        known = found.setdefault(each["pid"], {"pid": each["pid"], "alive": each["pid"] in alive, "services": []})
        known["services"].append({name: each[name] for name in ("role", "cell", "host")})
    for pid in alive:
        found[pid]["kernel"] = _of_kernel(pid)
    return list(found.values())


def _of_kernel(pid: int) -> dict[str, str]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}  # it has ended meanwhile
    values = dict(line.split(":", 1) for line in lines if ":" in line)
    return {name: values[name].strip() for name in ("State", "Threads", "VmRSS", "VmHWM") if name in values}


def _file(name: str, path: Path) -> Part:
    """The file, or its last whole lines."""
    try:
        with path.open("rb") as opened:
            size = opened.seek(0, os.SEEK_END)
            cut = size > LOG_BYTES
            opened.seek(size - LOG_BYTES if cut else 0)
            if cut:
                opened.readline()
            text = opened.read().decode("utf-8", errors="replace")
    except OSError as error:
        return Part(name, note=str(error.strerror))
    return Part(name, text, f"the end of {size} bytes" if cut else "")


def _redacted(part: Part, redaction: Redaction) -> Part:
    """The file without secrets; JSON stays JSON."""
    note = redaction.text(part.note)
    if part.file.endswith(".json"):
        try:
            return Part(part.file, _json(redaction.document(json.loads(part.text))), note)
        except ValueError:
            pass  # it is what a command said instead
    return Part(part.file, redaction.text(part.text), note)


def _index(state: Path, now: datetime, parts: list[Part]) -> dict[str, Any]:
    return {
        "state": str(state),
        "made_at": now.isoformat(),
        "files": [{"file": each.file, "bytes": len(each.text.encode()), "note": each.note} for each in parts],
    }


def _json(value: Any) -> str:
    return json.dumps(value, indent=2) + "\n"
