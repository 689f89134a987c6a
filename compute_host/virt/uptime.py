"""How long the host has been up, in the form of uptime(1), for the reports of its node."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

_UPTIME, _LOAD = Path("/proc/uptime"), Path("/proc/loadavg")


def reported(now: datetime) -> str | None:
    """` 12:00:01 up 3 days, 4:05, load average: 0.10, 0.20, 0.30`; None where the kernel does not say."""
    try:
        seconds, load = float(_UPTIME.read_text().split()[0]), _LOAD.read_text().split()[:3]
    except (OSError, ValueError, IndexError):
        return None
    minutes = int(seconds // 60)
    days, hours = minutes // 1440, minutes // 60 % 24
    return f" {now:%H:%M:%S} up {days} days, {hours}:{minutes % 60:02}, load average: {', '.join(load)}"
