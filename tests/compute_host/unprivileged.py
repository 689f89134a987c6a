"""The life of a guest, lived by a process that stops being root: run as `python -m tests.compute_host.unprivileged`."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

from cell_service.context import SYSTEM_CLOCK
from compute_host.config import HostSettings
from compute_host.libvirt_settings import LibvirtSettings
from compute_host.virt.driver import GIB, Disk
from compute_host.virt.libvirt.driver import LibvirtDriver
from tests.real.databases import wait_until
from tests.real.libvirt_driver import HELLO
from tests.suites.driver import LARGE, as_it_is, spec_of


def live(uri: str, state: Path, image: Path) -> None:
    """Every verb that makes, reads, moves or removes files. What is left of the guest is nothing."""
    settings = HostSettings(
        host=state.name,
        state=state,
        image_cache=state.parent / "images",
        libvirt=LibvirtSettings(connection_uri=uri, user_networking=True),
    )
    driver = LibvirtDriver(settings, SYSTEM_CLOCK)
    driver.start(lambda _uuid, _state: None)
    assert driver.nodes()
    made = spec_of(image, "raw")
    uuid = made.instance.uuid
    spec = replace(made, disks=(*made.disks, Disk("ephemeral", GIB), Disk("swap", 2**20)), config_drive=())
    driver.spawn(spec)
    wait_until(lambda: HELLO.decode() in driver.console_output(uuid), "the guest does not print")
    copies = (state / "running", state / "off")
    driver.snapshot_running(uuid, copies[0])
    driver.suspend(uuid)
    driver.resume(spec)
    driver.power_off(uuid, graceful_seconds=0)
    driver.snapshot(uuid, copies[1])
    for copy in copies:
        assert copy.read_bytes()[:4] == b"QFI\xfb"
        copy.unlink()
    driver.receive(as_it_is(spec, LARGE), driver.pack(uuid))
    driver.rescue(replace(as_it_is(spec, LARGE), disks=made.disks), stable=False)
    driver.unrescue(as_it_is(spec, LARGE))
    driver.reboot(as_it_is(spec, LARGE), hard=True)
    driver._bound_console_logs()
    driver.destroy(uuid)
    assert driver.guests() == ()
    driver.stop()
    assert [path.name for path in state.iterdir() if path.is_dir() or uuid in path.name] == []


def main(uri: str, directory: Path, image: Path, user: int, group: int) -> None:
    live(uri, directory / "privileged", image)  # so that all modules are loaded: the others' may be unreadable
    os.setgroups([])
    os.setgid(group)
    os.setuid(user)
    live(uri, directory / "plain", image)
    sys.stdout.write(f"lived as {os.getuid()}\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
