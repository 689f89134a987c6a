"""docs/demo/night.md is what happens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.clients.recording import Terminal, lines_of
from tests.clients.stock import openrc
from tests.faults import books
from tests.faults.installation import Installation, Unmet
from tools.manage.settings import FILES_VARIABLE

pytestmark = [pytest.mark.real, pytest.mark.faults, pytest.mark.timeout(3600)]

CELL, HOST = "cell2", "cell2-host1"
PLACES = {"web-1": "cell1-host1", "web-2": HOST, "web-3": "cell1-host2", "web-4": "cell2-host2"}
CHANGES = (
    "update_cell",
    "evacuate_host",
    "drain_host",
    "server create",
    "server delete",
    "server stop",
    "server start",
)
"""In commands that are typed once; all others only look."""


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Installation]:
    made = Installation(tmp_path, own_brokers=(CELL,))
    try:
        yield made
    finally:
        made.close()


def boot(cloud: Installation, name: str, host: str) -> str:
    made: str = cloud.user.post_server(name, availability_zone=f"nova:{host}").json()["server"]["id"]

    def is_active() -> bool | Unmet:
        shown = cloud.user.ask("GET", f"/servers/{made}").json().get("server", {})
        return shown.get("status") == "ACTIVE" or Unmet(shown)

    cloud.until(is_active, 600)
    return made


def test_the_worst_night(cloud: Installation, tmp_path: Path) -> None:
    ids = {name: boot(cloud, name, host) for name, host in PLACES.items()}
    variables = {name.replace("-", ""): uuid for name, uuid in ids.items()}
    files = ":".join(str(cloud.state / "etc" / f"{name}.conf") for name in ("nova", "global"))
    account = {**openrc(cloud.state), FILES_VARIABLE: files, "OS_COMPUTE_API_VERSION": "2.96"}
    terminal = Terminal(tmp_path, {**account, **variables})
    with ExitStack() as dead:
        events = {
            f"the database of {CELL} is frozen (SIGSTOP)": cloud.databases[CELL].freeze,
            f"the database of {CELL} runs on (SIGCONT)": cloud.databases[CELL].thaw,
            f"the broker of {CELL} stops": cloud.brokers[CELL].kill,
            f"the broker of {CELL} runs again": cloud.brokers[CELL].revive,
            f"the host {HOST} stops": lambda: dead.enter_context(cloud.frozen("compute", host=HOST)),
            f"the host {HOST} runs again": dead.close,
        }
        terminal.play(lines_of("night.md", cloud.port_base), events, is_look=only_looks)
    expected = {name: 1 for name in PLACES if name != "web-4"}  # deleted while its cell was away
    cloud.until(lambda: (found := guests(cloud, ids)) == expected or Unmet(found), 600)


def guests(cloud: Installation, ids: Mapping[str, str]) -> dict[str, int]:
    """On how many hosts each server has a guest."""
    found = books.guests(cloud)
    return {name: found[uuid] for name, uuid in ids.items() if uuid in found}


def only_looks(command: str) -> bool:
    return not any(each in command for each in CHANGES)
