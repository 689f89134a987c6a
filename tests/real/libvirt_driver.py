"""A host with the libvirt driver, on a private libvirtd, and the smallest guest that says something."""

from __future__ import annotations

from pathlib import Path

from cell_service.context import SYSTEM_CLOCK
from cell_service.model.lifecycle import PowerState
from compute_host.config import HostSettings
from compute_host.libvirt_settings import LibvirtSettings
from compute_host.virt.libvirt.driver import LibvirtDriver
from tests.real.databases import wait_until
from tests.real.libvirtd import PrivateLibvirtd
from tests.suites.keys import MemoryKeys

HELLO = b"POLYCELL"


def boot_sector() -> bytes:
    """Writes HELLO on the serial port, and halts."""
    code = b"".join(bytes((0xBA, 0xF8, 0x03, 0xB0, letter, 0xEE)) for letter in HELLO)  # mov dx, 3f8; mov al; out
    return (code + b"\xf4\xeb\xfd").ljust(510, b"\0") + b"\x55\xaa"


class Bench:
    """A host, the events it told of, and the drivers made for it."""

    def __init__(self, libvirtd: PrivateLibvirtd, state: Path, host: str = "h1") -> None:
        self.settings = HostSettings(
            host=host,
            state=state / host,
            image_cache=state / "images",
            libvirt=LibvirtSettings(connection_uri=libvirtd.uri, wait_soft_reboot_seconds=0),
        )
        self.keys = MemoryKeys()
        self.events: list[tuple[str, PowerState]] = []
        self.returns = 0
        self._made: list[LibvirtDriver] = []

    def driver(self, settings: HostSettings | None = None) -> LibvirtDriver:
        driver = LibvirtDriver(settings or self.settings, SYSTEM_CLOCK, self.keys)
        driver.start(lambda uuid, state: self.events.append((uuid, state)), self._returned)
        self._made.append(driver)
        return driver

    def _returned(self) -> None:
        self.returns += 1

    def close(self) -> None:
        last = self._made[-1]
        last.start(lambda _uuid, _state: None)
        for guest in last.guests():
            last.destroy(guest.uuid)
        for driver in self._made:
            driver.stop()


def printed(driver: LibvirtDriver, uuid: str, words: str = HELLO.decode()) -> None:
    wait_until(lambda: words in driver.console_output(uuid), f"the guest does not print {words}")


def left(bench: Bench, uuid: str) -> list[Path]:
    return list(bench.settings.state.glob(f"{uuid}*"))
