"""Whether QEMU really runs here with an accelerator: a /dev/kvm may exist and hang for ever, or be very slow.

The probe is a machine that boots through its BIOS from a sector of a few bytes, which write to a debug port, so that
QEMU ends with a certain status. KVM that takes many times as long for it as plain translation is not used (where the
processor's support is itself emulated, the BIOS alone takes seconds, and a kernel never comes up).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

QEMU = "qemu-system-x86_64"
LIMIT_SECONDS = 10.0
_SAID, _STATUS = 0x10, 0x21  # isa-debug-exit ends QEMU with (value << 1) | 1
_SECTOR = bytes((0xB0, _SAID, 0xE6, 0xF4, 0xF4, 0xEB, 0xFD)).ljust(510, b"\0") + b"\x55\xaa"
"""mov al, said; out 0xf4, al; hlt; jmp to hlt"""
SLOWER, SLACK_SECONDS = 4.0, 0.5


def works(kind: str, remembered: Path | None = None, *, limit_seconds: float = LIMIT_SECONDS) -> bool:
    """Whether a guest runs with the accelerator `kind` (kvm or tcg). The answer is stored in the file, and valid
    until the machine boots again or has another QEMU or /dev/kvm."""
    if kind == "kvm" and not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    circumstances = _circumstances(kind)
    known = _known(remembered)
    if known.get("circumstances") == circumstances and isinstance(known.get("works"), bool):
        return bool(known["works"])
    answer = _proven(kind, limit_seconds)
    if remembered is not None:
        _remember(remembered, {"circumstances": circumstances, "works": answer})
    return answer


def _proven(kind: str, limit_seconds: float) -> bool:
    seconds = _seconds(kind, limit_seconds)
    if seconds is None or kind == "tcg":
        return seconds is not None
    plain = _seconds("tcg", limit_seconds)
    return plain is None or seconds <= SLACK_SECONDS + SLOWER * plain


def _seconds(kind: str, limit_seconds: float) -> float | None:
    """How long the probe took; None when it failed, or did not end in time."""
    with tempfile.NamedTemporaryFile(prefix="probe-") as sector:
        sector.write(_SECTOR)
        sector.flush()
        begun = time.monotonic()
        try:
            process = subprocess.Popen(
                [QEMU, "-M", "pc", "-accel", kind, "-m", "16", "-nodefaults", "-no-user-config", "-display", "none",
                 "-drive", f"file={sector.name},format=raw,if=ide",
                 "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        except OSError:
            return None
        try:
            return time.monotonic() - begun if process.wait(limit_seconds) == _STATUS else None
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):  # stuck in the kernel: not waited for
                process.wait(1)
            return None


def _circumstances(kind: str) -> list[str]:
    return [kind, _boot_id(), _qemu_version(), _identity("/dev/kvm")]


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _qemu_version() -> str:
    try:
        done = subprocess.run([QEMU, "--version"], capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.split("\n")[0]


def _identity(path: str) -> str:
    try:
        found = os.stat(path)
    except OSError:
        return ""
    return f"{found.st_dev}:{found.st_ino}:{found.st_rdev}:{found.st_mode}"


def _known(path: Path | None) -> dict[str, Any]:
    try:
        known = json.loads(path.read_text(encoding="utf-8")) if path is not None else {}
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _remember(path: Path, answer: dict[str, Any]) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(answer), encoding="utf-8")
        os.replace(part, path)
