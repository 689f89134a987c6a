"""One simulated cloud for all clients: what each scenario makes in it is its own."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.clients.installed import Installed
from tests.clients.stock import Shell, openrc


@pytest.fixture(scope="session")
def misfits() -> Iterator[list[str]]:
    """What clients of any cloud were answered otherwise than published, and no test has told yet."""
    found: list[str] = []
    yield found
    assert not found, "\n".join(found)


@pytest.fixture(autouse=True)
def _as_published(misfits: list[str]) -> Iterator[None]:
    """A test during which an answer came that does not fit what is published fails."""
    yield
    found, misfits[:] = list(misfits), []
    assert not found, "\n".join(found)


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory, misfits: list[str]) -> Iterator[Installed]:
    made = Installed(tmp_path_factory.mktemp("clients"), misfits)
    made.up()
    # From host2 they go until a command ends that, however long the commands before it take.
    for host, seconds in (("cell1-host1", 2), ("cell1-host2", 100)):
        faults = made.state / "hosts" / "cell1" / host / "faults.json"
        faults.write_text(json.dumps({"send:slow-*": {"hang_seconds": seconds}}), encoding="utf-8")
    yield made
    made.polycell("down")
    assert made.hop is not None
    assert made.hop.seen, "no client came through the hop"
    made.hop.close()


@pytest.fixture(scope="session")
def environment(installed: Installed) -> dict[str, str]:
    """What an administrator has sourced."""
    return openrc(installed.state)


@pytest.fixture(scope="session")
def shell(environment: dict[str, str]) -> Shell:
    return Shell(environment)
