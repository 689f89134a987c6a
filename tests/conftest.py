"""Fixtures that start real servers, for every test that names them; and which tests run on one worker."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

pytest_plugins = ["tests.real.databases", "tests.real.libvirtd", "tests.real.memcached", "tests.real.rabbitmq"]

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")  # how long an example takes says how busy the machine is

SHARING = {"clients": "clients", "faults": "faults", "guest": "host", "lab": "host", "wiring": "host"}
"""Folders whose tests share a cloud of processes, or what is there once on a machine: by the name of their group."""


class _ByGroup(LoadScopeScheduling):
    """The tests of one file, or of one group of folders, run on one worker."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        folder = path.removeprefix("tests/").partition("/")[0]
        return SHARING.get(folder, path)


@pytest.hookimpl
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """With `--dist loadgroup` groups are those of `SHARING`: the plugin's own marks get lost with newer pytests."""
    return _ByGroup(config, log) if config.getvalue("dist") == "loadgroup" else None
