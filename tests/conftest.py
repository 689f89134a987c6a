"""Fixtures that start real servers, for every test that names them; and which tests run on one worker."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["tests.real.databases", "tests.real.libvirtd", "tests.real.memcached", "tests.real.rabbitmq"]

HERE = Path(__file__).parent
SHARING = {"clients": "clients", "faults": "faults", "guest": "host", "lab": "host", "wiring": "host"}
"""Folders whose tests share a cloud of processes, or what is there once on a machine: by the name of their group."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With `--dist loadgroup` the tests of one file, or of one such group, run on one worker."""
    for item in items:
        inside = item.path.relative_to(HERE)
        item.add_marker(pytest.mark.xdist_group(SHARING.get(inside.parts[0], str(inside))))
