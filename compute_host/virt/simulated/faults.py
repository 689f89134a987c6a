"""Faults that are configured for a simulated host, in `faults.json` of its directory (or one file for all hosts, option
`[simulated] faults_file`). The file is read again whenever it changes; an unreadable one counts as empty.

    {"spawn": {"rate": 0.1, "error": "HostOutOfSpace"},        one boot of ten fails
     "spawn:web-*": {"error": "DriverError", "times": 1},      the first boot of such a name fails
     "power_off:6f70656e-…": {"hang_seconds": 5},              this guest takes 5 seconds more to stop
     "guest:db-*": {"does": "crash", "times": 1},              such a guest crashes by itself, once
     "guest": {"does": "shutdown", "rate": 0.01},              now and then a guest shuts itself down
     "host": "frozen"}                                         nothing answers any more

A key is a verb of the driver (spawn, destroy, power_on, power_off, reboot, pause, unpause, suspend, resume, pack, send,
receive, arrive, snapshot, rescue, unrescue, attach_interface, detach_interface, attach_volume, detach_volume,
swap_volume, extend_volume, snapshot_volume, remove_volume_snapshot, set_admin_password, quiesce, trigger_crash_dump,
nodes, guests, power_state) or `guest` for what guests do by themselves (checked every `watch_seconds`), alone or with a
uuid or a pattern of display names. `rate`: how often (1.0); `times`: at most so often (for ever); `error`: the class of
error to raise (DriverError, unless only `hang_seconds` is given); `reason`: its text.
"""

from __future__ import annotations

import fnmatch
import json
import logging
import os
import random
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cell_service.errors import DriverError, HostOutOfSpace, ImageUnacceptable

log = logging.getLogger(__name__)

ERRORS = {"DriverError", "HostOutOfSpace", "ImageUnacceptable"}


@dataclass(frozen=True, slots=True)
class InjectedFault:
    """The fault that happens instead of the verb, or before it."""

    error: str | None
    reason: str
    hang_seconds: float
    does: str


class Faults:
    """The faults of one host. Thread-safe."""

    def __init__(self, paths: tuple[Path, ...], chance: random.Random) -> None:
        self._paths, self._chance = tuple(map(str, paths)), chance
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[int, int]] = {}
        self._rules: dict[str, dict[str, Any]] = {}
        self._used: dict[str, int] = {}

    def frozen(self) -> bool:
        """Whether the whole host hangs."""
        return any(rules.get("host") == "frozen" for rules in self._current())

    def any_for_guests(self) -> bool:
        """Whether guests may do something by themselves."""
        return any(key.split(":")[0] == "guest" for rules in self._current() for key in rules)

    def happening(self, verb: str, uuid: str = "", name: str = "") -> InjectedFault | None:
        """The fault of this verb on this guest now, if there is one."""
        for rules in self._current():
            for key, rule in rules.items():
                if _matches(key, verb, uuid, name) and isinstance(rule, dict) and self._strikes(key, rule):
                    return _fault(rule)
        return None

    def _strikes(self, key: str, rule: dict[str, Any]) -> bool:
        with self._lock:
            used = self._used.get(key, 0)
            if used >= rule.get("times", used + 1) or self._chance.random() >= rule.get("rate", 1.0):
                return False
            self._used[key] = used + 1
            return True

    def _current(self) -> list[dict[str, Any]]:
        for path in self._paths:
            try:
                stat = os.stat(path)
                mark = (stat.st_mtime_ns, stat.st_size)
            except OSError:
                self._rules.pop(path, None)
                self._seen.pop(path, None)
                continue
            if self._seen.get(path) != mark:
                self._rules[path] = _read(path)
                self._seen[path] = mark
                self._used.clear()
        return list(self._rules.values())


def raise_for(fault: InjectedFault, image_id: str = "") -> None:
    """Raise the fault's error, if it has one."""
    if fault.error == "HostOutOfSpace":
        raise HostOutOfSpace(reason=fault.reason)
    if fault.error == "ImageUnacceptable":
        raise ImageUnacceptable(image_id=image_id, reason=fault.reason)
    if fault.error is not None:
        raise DriverError(reason=fault.reason)


def _matches(key: str, verb: str, uuid: str, name: str) -> bool:
    wanted, _, whom = key.partition(":")
    return wanted == verb and (not whom or whom == uuid or fnmatch.fnmatchcase(name, whom))


def _fault(rule: dict[str, Any]) -> InjectedFault:
    error = rule.get("error", None if "hang_seconds" in rule or "does" in rule else "DriverError")
    if error is not None and error not in ERRORS:
        log.warning("faults: unknown error %s, taken as DriverError", error)
        error = "DriverError"
    reason = str(rule.get("reason", "a fault was asked for"))
    return InjectedFault(error, reason, float(rule.get("hang_seconds", 0)), str(rule.get("does", "shutdown")))


def _read(path: str) -> dict[str, Any]:
    try:
        rules = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        log.warning("faults: %s cannot be read: %s", path, error)
        return {}
    return rules if isinstance(rules, dict) else {}
