"""A host with libvirt: what we add to a spawn, twenty spawns at once on two hosts, images of guests, rescue, and what
an agent's driver takes with no guest and with many; volumes that a running guest gets, and releases at once.

    python -m bench.host [--spawns 10] [--at-once 20] [--guests 50]

Needs root, libvirt and QEMU: each host is a private libvirtd in namespaces of its own. The guests are a boot sector
that halts, from an image that is in the cache: what is measured is making a guest, not its boot. "Ours" is a whole
spawn less libvirt's define and start within it. "first" is the spawn from an image that the host has not used before.
An idle driver reads its node and its guests once a second, ten times as often as an agent; the CPU share is that of an
agent.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import target
from cell_service.context import SYSTEM_CLOCK
from cell_service.model.block_device import BlockDevice
from cell_service.model.instance import Flavor, Instance
from compute_host.config import HostSettings, Ratios
from compute_host.libvirt_settings import LibvirtSettings
from compute_host.virt.driver import GIB, Disk, DriveFile, GuestSpec
from compute_host.virt.libvirt.domain import Laid
from compute_host.virt.libvirt.driver import LibvirtDriver
from tools.hypervisors.host import PrivateHost

SECTOR = b"\xf4\xeb\xfd".ljust(510, b"\0") + b"\x55\xaa"
IMAGE_BYTES = 16 * 2**20
START_SECONDS = 60.0
IDLE_SECONDS, IDLE_READS, AGENT_SECONDS = 1.0, 10, 10.0
IDLE = """
import json, re, sys, time
from pathlib import Path
from cell_service.context import SYSTEM_CLOCK
import compute_host.agent
from compute_host.config import HostSettings
from compute_host.libvirt_settings import LibvirtSettings
from compute_host.virt.libvirt.domain import Laid
from compute_host.virt.libvirt.driver import LibvirtDriver
settings = HostSettings("b1", Path(sys.argv[1]), Path(sys.argv[1]), libvirt=LibvirtSettings(connection_uri=sys.argv[2]))
driver = LibvirtDriver(settings, SYSTEM_CLOCK)
driver.start(lambda uuid, state: None)
driver.nodes(), driver.guests()
begun = time.process_time()
for _ in range(int(sys.argv[3])):
    time.sleep(float(sys.argv[4]))
    driver.nodes(), driver.guests()
spent = (time.process_time() - begun) / int(sys.argv[3])
sizes = dict(re.findall(r"^(Rss|Pss): +(\\\\d+)", Path("/proc/self/smaps_rollup").read_text(), re.M))
print(json.dumps({"rss_mib": int(sizes["Rss"]) / 1024, "pss_mib": int(sizes["Pss"]) / 1024,
                  "cpu_percent": 100 * spent / float(sys.argv[5])}))
driver.stop()
""".replace("\\\\", "\\")


class TimedDriver(LibvirtDriver):
    """Knows how long libvirt itself took for the last guest."""

    libvirts = 0.0

    @property
    def directory(self) -> Path:
        return self._settings.state

    def _define_and_start(self, spec: GuestSpec, laid: Laid, previous: str | None = None) -> None:
        begun = time.perf_counter()
        super()._define_and_start(spec, laid, previous)
        self.libvirts = time.perf_counter() - begun


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Spawn guests on private hosts.")
    parser.add_argument("--spawns", type=int, default=10)
    parser.add_argument("--at-once", type=int, default=20)
    parser.add_argument("--volumes", type=int, default=10, help="times that a volume is attached and detached")
    parser.add_argument("--guests", type=int, default=50, help="of the driver whose memory and time are read")
    parser.add_argument("--out", metavar="FILE", help="write the JSON here too")
    args = parser.parse_args(argv)
    with (
        tempfile.TemporaryDirectory(prefix="pcb-") as name,
        _host(Path(name), "b1") as one,
        _host(Path(name), "b2") as two,
    ):
        image = Path(name) / "image"
        image.write_bytes(SECTOR.ljust(IMAGE_BYTES, b"\0"))
        drivers = [_driver(Path(name), each) for each in (one, two)]
        result = {
            "bench": "host",
            "spawn": _shares(drivers[0], image, args.spawns),
            "at_once": _at_once(drivers, image, args.at_once),
            "verbs": _verbs(drivers[0], image, Path(name)),
            "volumes": _volumes(drivers[0], image, Path(name), args.volumes),
            "idle": {str(count): _idle(drivers[0], one, image, count) for count in (0, args.guests)},
        }
        for driver in drivers:
            driver.stop()
    target.emit(result, args.out)
    return 0


def _shares(driver: TimedDriver, image: Path, spawns: int) -> dict[str, Any]:
    whole, bare = [], []
    for _ in range(spawns + 1):
        spec = _spec(image)
        driver.libvirts = 0.0
        begun = time.perf_counter()
        driver.spawn(spec)
        whole.append(time.perf_counter() - begun)
        bare.append(driver.libvirts)
        driver.destroy(spec.instance.uuid)
    ours = [all_of_it - libvirts for all_of_it, libvirts in zip(whole[1:], bare[1:], strict=True)]
    return {
        "spawns": spawns,
        "first_ms": _ms(whole[0]),
        "whole_p50_ms": _ms(statistics.median(whole[1:])),
        "define_and_start_p50_ms": _ms(statistics.median(bare[1:])),
        "ours_p50_ms": _ms(statistics.median(ours)),
        "ours_max_ms": _ms(max(ours)),
    }


def _at_once(drivers: list[TimedDriver], image: Path, spawns: int) -> dict[str, Any]:
    specs = [_spec(image) for _ in range(spawns)]
    begun = time.perf_counter()
    with ThreadPoolExecutor(spawns) as pool:
        for done in [pool.submit(drivers[n % 2].spawn, spec) for n, spec in enumerate(specs)]:
            done.result()
    seconds = time.perf_counter() - begun
    for number, spec in enumerate(specs):
        drivers[number % 2].destroy(spec.instance.uuid)
    return {"hosts": 2, "spawns": spawns, "all_done_seconds": round(seconds, 3)}


def _verbs(driver: TimedDriver, image: Path, directory: Path) -> dict[str, Any]:
    """How long each verb takes once, of a guest with an image of 16 MiB."""
    spec = _spec(image)
    uuid = spec.instance.uuid
    driver.spawn(spec)

    def took(verb: Callable[[], object]) -> float:
        begun = time.perf_counter()
        verb()
        return _ms(time.perf_counter() - begun)

    found = {
        "image_of_running_ms": took(lambda: driver.snapshot_running(uuid, directory / "copy")),
        "stop_ms": took(lambda: driver.power_off(uuid, graceful_seconds=0)),
        "image_of_stopped_ms": took(lambda: driver.snapshot(uuid, directory / "copy")),
        "rescue_ms": took(lambda: driver.rescue(spec, stable=False)),
        "unrescue_ms": took(lambda: driver.unrescue(spec)),
        "delete_ms": took(lambda: driver.destroy(uuid)),
    }
    (directory / "copy").unlink()
    return found


def _volumes(driver: TimedDriver, image: Path, directory: Path, times: int) -> dict[str, Any]:
    """A volume at a socket of qemu-nbd; on a SCSI bus QEMU releases it without the guest's system."""
    spec = _spec(image)
    spec = replace(spec, instance=replace(spec.instance, system_metadata={"image_hw_disk_bus": "scsi"}))
    uuid, file, door = spec.instance.uuid, directory / "volume", directory / "volume.sock"
    with file.open("wb") as made:
        made.truncate(GIB)
    info = {"driver_volume_type": "nbd", "export": "volume-1", "socket": str(door), "access_mode": "rw"}
    device = BlockDevice(str(uuid4()), "volume", "volume", volume_id=str(uuid4()), volume_size=1, connection_info=info)
    options = ("--format=raw", "--persistent", "--shared=0", f"--socket={door}", "--export-name=volume-1")
    server = subprocess.Popen(["qemu-nbd", *options, str(file)])
    attached, detached = [], []
    try:
        while not door.exists():
            time.sleep(0.01)
        driver.spawn(spec)
        for _ in range(times):
            begun = time.perf_counter()
            driver.attach_volume(spec, device)
            done = time.perf_counter()
            driver.detach_volume(uuid, device)
            attached.append(done - begun)
            detached.append(time.perf_counter() - done)
        driver.destroy(uuid)
    finally:
        server.kill()
        server.wait()
    return {
        "times": times,
        "attach_p50_ms": _ms(statistics.median(attached)),
        "attach_max_ms": _ms(max(attached)),
        "detach_p50_ms": _ms(statistics.median(detached)),
        "detach_max_ms": _ms(max(detached)),
    }


def _idle(driver: TimedDriver, host: PrivateHost, image: Path, guests: int) -> dict[str, float]:
    """The memory of a driver's process and its share of a processor, while so many guests run."""
    specs = [_spec(image) for _ in range(guests)]
    for spec in specs:
        driver.spawn(spec)
    state = str(driver.directory)
    words = [sys.executable, "-c", IDLE, state, host.uri, str(IDLE_READS), str(IDLE_SECONDS), str(AGENT_SECONDS)]
    done = subprocess.run(words, capture_output=True, check=True, text=True, cwd=Path(__file__).resolve().parent.parent)
    for spec in specs:
        driver.destroy(spec.instance.uuid)
    return {key: round(value, 2) for key, value in json.loads(done.stdout).items()}


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


def _spec(image: Path) -> GuestSpec:
    flavor = Flavor(flavorid="1", name="small", vcpus=1, memory_mib=64, root_gib=1)
    instance = Instance(str(uuid4()), "p", "u", "guest", flavor, datetime(2026, 1, 1, tzinfo=UTC), image_ref="image")
    drive = (DriveFile("openstack/latest/meta_data.json", b"{}"),)
    return GuestSpec(instance, (Disk("root", GIB, image, "raw"),), (), config_drive=drive)


def _driver(state: Path, host: PrivateHost) -> TimedDriver:
    settings = HostSettings(
        host.name,
        state / f"guests-{host.name}",
        state / "images",
        ratios=Ratios(cpu=100),
        libvirt=LibvirtSettings(connection_uri=host.uri, virt_type="qemu"),
    )
    driver = TimedDriver(settings, SYSTEM_CLOCK)
    driver.start(lambda _uuid, _state: None)
    return driver


@contextlib.contextmanager
def _host(state: Path, name: str) -> Iterator[PrivateHost]:
    host = PrivateHost(name, state)
    process = subprocess.Popen(host.prepare(), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + START_SECONDS
        while not _answers(host.uri):
            if time.monotonic() > until or process.poll() is not None:
                raise target.Unusable("the private host does not start: are libvirt and QEMU installed, are you root?")
            time.sleep(0.05)
        yield host
    finally:
        pid = host.pid()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.kill()
        process.wait()


def _answers(uri: str) -> bool:
    asked = ["virsh", "-q", "-c", uri, "hostname"]
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
