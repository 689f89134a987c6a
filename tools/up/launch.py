"""`polycell up`: from nothing, or from what is there, to a cloud that is ready."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import logging
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO

from cell_service import logs
from cell_service.context import SYSTEM_CLOCK, Deadline
from cell_service.errors import Invalid, Unavailable
from tools.services import report
from tools.up import (
    background,
    configs,
    databases,
    keystone,
    preflight,
    private,
    record,
    seed_images,
    seeding,
    shape,
    waiting,
)
from tools.up.drivers import SIMULATED, choose
from tools.up.plan import Options, Plan, plan_of
from tools.up.supervisor import Children, InProcess, Services

log = logging.getLogger(__name__)

UNLISTED = ("metadata", "console", "volume", "share")
"""Not in the identity service's catalog, or not by this name."""
DIRECTORIES = ("etc", "run", "run/hypervisors", "run/reports", "logs", "db", "companions", "hosts", "cache")


class Progress:
    """Lines for the user: seconds since the start, and what is being done."""

    def __init__(self, out: IO[str]) -> None:
        self._out, self._began = out, time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def say(self, words: str) -> None:
        print(f"{self.seconds:6.1f} s  {words}", file=self._out, flush=True)

    def ready(self, plan: Plan) -> None:
        words = f"READY in {self.seconds:.1f} s: {plan.endpoint('compute')}\n{_next_steps(plan)}"
        print(words, file=self._out, flush=True)


def _next_steps(plan: Plan) -> str:
    """Lines to paste: what to do with a cloud that is ready."""
    image = seed_images.GUEST if plan.driver == "libvirt" else seed_images.TINY
    server = f"openstack server create --flavor m1.micro --image {image} --network {seeding.NETWORK} --wait first"
    return f"    . {shlex.quote(str(plan.state / 'openrc'))}\n    {server}\n    openstack server list"


def up(options: Options, *, detach: bool) -> int:
    """Bring the cloud up. 0 it was stopped again (or, detached, is READY). Raises Invalid, Unavailable."""
    plan = plan_of(options)
    _prepare(plan.state, private.OTHERS_PASS if options.libvirt_uri else private.OWNER_ALONE)
    plan = replace(plan, choice=choose(options.driver, options.libvirt_uri, plan.state / "cache"))
    if detach:
        return background.run(
            lambda out: _run_alone(plan, _ClosingProgress(out)), plan.state / "logs" / record.LAUNCHER_LOG
        )
    return _run_alone(plan, Progress(sys.stdout))


def _prepare(state: Path, umask: int) -> None:
    try:
        state.mkdir(mode=0o777 & ~umask, parents=True, exist_ok=True)
        private.close(state, umask, (*DIRECTORIES, "hypervisors"))
        for name in DIRECTORIES:
            (state / name).mkdir(parents=True, exist_ok=True)
        (state / "etc").chmod(0o700)
        probe = state / "run" / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise Invalid(reason=f"{state} can't be written: {error.strerror}") from None


@contextlib.contextmanager
def _alone(state: Path) -> Iterator[None]:
    """Hold the directory's lock, so that it has one launcher. Raises Unavailable when another one has it."""
    with (state / "run" / "launcher.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Unavailable(reason=f"a cloud is already running in {state}") from None
        yield


def _run_alone(plan: Plan, progress: Progress) -> int:
    with _alone(plan.state):
        return _run(plan, progress)


def _run(plan: Plan, progress: Progress) -> int:
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    report.on_signal("launcher", str(plan.reports))
    logs.set_up(log_file=str(plan.state / "logs" / record.LAUNCHER_LOG))
    _end_strays(plan, progress)
    preflight.check(plan, progress.say, ended)
    if ended.is_set():
        progress.say("stopping")
        return background.INTERRUPTED
    plan = _with_guest_image(plan, progress)
    configs.write_configs(plan)
    progress.say(f"syncing {len(plan.databases)} databases")
    databases.sync(plan)
    uuids = databases.map_cells(plan)
    shape.remember(plan)
    progress.say(f"mapped cell0 and {', '.join(plan.cells)}")
    _seed_identity(plan, progress)
    parts: Services

    def note() -> None:
        record.write(plan, uuids, parts.running(), record.this_process("launcher"))

    parts = Children(plan, plan.processes(), note) if plan.options.processes else InProcess(plan, note)
    progress.say(f"starting {len(plan.processes())} services" + (" as processes" if plan.options.processes else ""))
    try:
        if not ended.is_set():
            parts.start()
            note()
            _await(plan, progress, ended)
        if not ended.is_set():
            configs.write_clients(plan)
            gc.collect()
            gc.freeze()
            progress.ready(plan)
            ended.wait()
        progress.say("stopping")
    finally:
        parts.stop()
        record.write(plan, uuids, [], None)
    return 0


def _with_guest_image(plan: Plan, progress: Progress) -> Plan:
    """The plan, when there is an image for its guests; else, if `libvirt` was not requested, the same with simulated
    hosts. Raises Unavailable when it was."""
    if plan.driver != "libvirt":
        reason = f" ({plan.choice.reason})" if plan.choice.reason else ""
        progress.say(f"hosts are simulated{reason}")
        return plan
    from tools.guest.image import build

    words = "KVM" if plan.choice.kvm else "plain QEMU, for KVM does not work here"
    progress.say(f"hosts run real guests by libvirt and {words}; networking: {plan.choice.networking}")
    progress.say(f"building the guest image, unless it is in {plan.guest_cache}")
    try:
        build(plan.guest_cache)
    except Unavailable as error:
        if plan.options.driver == "libvirt":
            raise
        progress.say(f"hosts are simulated, for there is no guest image: {error}")
        return replace(plan, choice=replace(SIMULATED, reason=f"no guest image: {error}"))
    return plan


def _end_strays(plan: Plan, progress: Progress) -> None:
    """End processes of a launcher that was killed: they occupy ports, and no process watches them."""
    with contextlib.suppress(Invalid):
        strays = [each for each in record.living(record.read(plan.state)) if each.pid != os.getpid()]
        if strays:
            progress.say(f"ending {len(strays)} processes that a killed launcher left")
        end(strays, grace_seconds=5.0)


def end(processes: list[record.Running], grace_seconds: float) -> None:
    """End processes by their ids: SIGTERM first, SIGKILL after the grace."""
    for number, seconds in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, 5.0)):
        for each in processes:
            if record.is_ours(each.pid, each.started):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(each.pid, number)
        until = time.monotonic() + seconds
        while any(record.is_ours(each.pid, each.started) for each in processes) and time.monotonic() < until:
            time.sleep(0.05)


def _seed_identity(plan: Plan, progress: Progress) -> None:
    if plan.options.auth == "noauth2":
        return
    endpoints = {name: plan.endpoint(name) for name in plan.services if name not in UNLISTED}
    endpoints |= {kind: plan.endpoint("volume") for kind in ("volumev3", "block-storage")}
    endpoints |= {kind: plan.endpoint("share") for kind in ("sharev2", "shared-file-system")}
    if plan.options.auth != "companion":
        for line in keystone.register(plan, endpoints):
            progress.say(line)
        return
    from tools.companions.identity.service import Seed
    from tools.companions.identity.service import seed as seed_identity

    seed_identity(plan.state / "companions", Seed(plan.passwords, endpoints))


def _await(plan: Plan, progress: Progress, ended: threading.Event) -> None:
    """Wait until the APIs answer, seed, and wait until every host is up and known."""
    deadline = Deadline.after(waiting.READY_SECONDS, SYSTEM_CLOCK)
    waiting.until_served(plan, (name for name in plan.services if name != "compute"), deadline, ended)
    progress.say("seeding flavors, an image and a network")
    if not ended.is_set():
        seeding.seed(plan)
    waiting.until_hosts_are_ready(plan, progress.say, deadline, ended)
    waiting.until_served(plan, ("compute",), deadline, ended)


class _ClosingProgress(Progress):
    """The foreground stops waiting at READY; what is said later is in the log."""

    def ready(self, plan: Plan) -> None:
        super().ready(plan)
        self._out.close()

    def say(self, words: str) -> None:
        if self._out.closed:
            log.info(words)
        else:
            super().say(words)
