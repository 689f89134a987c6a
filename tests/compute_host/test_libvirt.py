"""The libvirt driver on a libvirtd of its own: the suite of all drivers, and what can go wrong with a real one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("libvirt", reason="needs libvirt-python")

from cell_service.context import SYSTEM_CLOCK
from cell_service.model.lifecycle import PowerState
from compute_host.config import HostSettings
from compute_host.libvirt_settings import LibvirtSettings
from compute_host.virt.libvirt.driver import LibvirtDriver
from tests.real.libvirtd import PrivateLibvirtd
from tests.suites.driver import DriverSuite

pytestmark = pytest.mark.real

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
        self.events: list[tuple[str, PowerState]] = []
        self._made: list[LibvirtDriver] = []

    def driver(self, settings: HostSettings | None = None) -> LibvirtDriver:
        driver = LibvirtDriver(settings or self.settings, SYSTEM_CLOCK)
        driver.start(lambda uuid, state: self.events.append((uuid, state)))
        self._made.append(driver)
        return driver

    def close(self) -> None:
        last = self._made[-1]
        last.start(lambda _uuid, _state: None)
        for guest in last.guests():
            last.destroy(guest.uuid)
        for driver in self._made:
            driver.stop()


@pytest.fixture
def bench(libvirtd: PrivateLibvirtd, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(libvirtd, tmp_path)
    made.driver()
    yield made
    made.close()


@pytest.fixture
def driver(bench: Bench) -> LibvirtDriver:
    return bench._made[0]


@pytest.fixture
def image(tmp_path: Path) -> tuple[Path, str]:
    path = tmp_path / "image"
    path.write_bytes(boot_sector())
    return path, "raw"


class TestLibvirtDriver(DriverSuite):
    @pytest.fixture
    def again(self, bench: Bench) -> Callable[[], LibvirtDriver]:
        return bench.driver
