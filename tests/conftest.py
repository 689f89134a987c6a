"""Fixtures that start real servers, for every test that names them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadFileScheduling

pytest_plugins = [
    "tests.real.databases",
    "tests.real.guest_image",
    "tests.real.libvirtd",
    "tests.real.memcached",
    "tests.real.rabbitmq",
]

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")  # how long an example takes says how busy the machine is

ONE_CLOUD = ("tests/faults", "tests/lab")
"""Directories whose files share a cloud that takes long to start, and one that no test should disturb for another."""
OWN_CLOUD = (
    "tests/faults/test_demo.py",
    "tests/faults/test_night.py",
    "tests/faults/test_move_kills.py",
    "tests/faults/test_sick_cells.py",
)


class _ByCloud(LoadFileScheduling):
    """Tests of a file run on one worker, and all that share a cloud."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        if path in OWN_CLOUD:
            return path
        return next((each for each in ONE_CLOUD if path.startswith(f"{each}/")), path)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _ByCloud | None:
    return _ByCloud(config, log) if config.getvalue("dist") == "loadfile" else None
