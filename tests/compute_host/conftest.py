"""Fixtures of the tests with a real libvirt."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.real.libvirt_driver import Bench
    from tests.real.libvirtd import PrivateLibvirtd


@pytest.fixture
def bench(libvirtd: PrivateLibvirtd, tmp_path: Path) -> Iterator[Bench]:
    from tests.real.libvirt_driver import Bench

    made = Bench(libvirtd, tmp_path)
    made.driver()
    yield made
    made.close()
