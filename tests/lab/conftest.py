"""A cloud of two cells, each with a MariaDB and a RabbitMQ of its own and private libvirt hosts: one for all tests."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cell_service.errors import Invalid, Unavailable
from tests.faults import bursts
from tests.faults.installation import Installation
from tests.lab.lab import Lab
from tools.guest.image import build
from tools.up.drivers import choose

CACHE = Path(os.environ.get("POLYCELL_CACHE") or Path(tempfile.gettempdir()) / "polycell-guest-cache")


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    directory = tmp_path_factory.mktemp("lab")
    try:
        choose("libvirt", "", directory)
        build(CACHE)
    except (Invalid, Unavailable) as error:
        pytest.skip(f"no real guests here: {error}")
    os.environ["POLYCELL_CACHE"] = str(CACHE)
    made = Lab(Installation(directory, "libvirt", hosts_per_cell=2))
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def cloud(lab: Lab) -> Iterator[Lab]:
    """Healthy and empty, before and after."""
    lab.installation.until_healthy()
    yield lab
    bursts.sweep(lab.installation)
    lab.demand_nothing()
