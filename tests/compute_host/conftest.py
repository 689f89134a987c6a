"""Fixtures of the tests with a real libvirt."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from compute_host.virt.libvirt.driver import LibvirtDriver
    from tests.real.libvirt_driver import Bench
    from tests.real.libvirtd import PrivateLibvirtd


@pytest.fixture
def bench(libvirtd: PrivateLibvirtd, tmp_path: Path) -> Iterator[Bench]:
    from tests.real.libvirt_driver import Bench

    made = Bench(libvirtd, tmp_path)
    made.driver()
    yield made
    made.close()


@pytest.fixture
def driver(bench: Bench) -> LibvirtDriver:
    return bench._made[0]


@pytest.fixture
def image(tmp_path: Path) -> tuple[Path, str]:
    """The smallest guest that says something, and its format."""
    from tests.real.libvirt_driver import boot_sector

    path = tmp_path / "image"
    path.write_bytes(boot_sector())
    return path, "raw"
