"""A cell whose database keeps its connections and says nothing: the other cell does not notice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.faults import books, bursts
from tests.faults.installation import Installation, Unmet

pytestmark = [pytest.mark.real, pytest.mark.faults, pytest.mark.timeout(900)]

PATIENCE = 2.0
"""Seconds that a client waits for any answer, the first after the freeze too."""


@pytest.fixture
def frozen(cloud: Installation) -> Iterator[dict[str, list[str]]]:
    """Servers by cell; then cell2's database is frozen."""
    servers = {}
    for cell in ("cell1", "cell2"):
        answers = [cloud.user.post_server(availability_zone=f"nova:{cell}-host1") for _ in range(2)]
        servers[cell] = [answer.json()["server"]["id"] for answer in answers]
    bursts.settle(cloud)
    shown = books.demand_balance(cloud)
    assert {uuid: each.get("fault") for uuid, each in shown.items() if each["status"] != "ACTIVE"} == {}
    cloud.databases["cell2"].freeze()
    try:
        yield servers
    finally:
        cloud.databases["cell2"].thaw()


def ask(cloud: Installation, method: str, path: str, version: str = "2.96") -> requests.Response:
    return cloud.user.ask(method, path, version=version, timeout=PATIENCE)


def listed(cloud: Installation, version: str) -> list[dict[str, Any]]:
    return cloud.user.servers(timeout=PATIENCE, version=version, from_all=False)


def test_the_other_cell_goes_on_and_a_delete_is_done_after_the_thaw(
    cloud: Installation, frozen: dict[str, list[str]]
) -> None:
    for uuid in frozen["cell1"] * 3:  # on a busy machine a cell that is well may be late
        cloud.until(lambda uuid=uuid: ask(cloud, "GET", f"/servers/{uuid}").json()["server"]["status"] == "ACTIVE")
    expected = dict.fromkeys(frozen["cell1"], "ACTIVE") | dict.fromkeys(frozen["cell2"], "UNKNOWN")
    for version in ("2.69", "2.96"):
        cloud.until(
            lambda version=version: {each["id"]: each["status"] for each in listed(cloud, version)} == expected
        )  # fmt: skip
    cloud.until(lambda: {each["id"] for each in listed(cloud, "2.1")} == set(frozen["cell1"]))
    doomed, kept = frozen["cell2"]
    for uuid in frozen["cell2"]:
        assert ask(cloud, "GET", f"/servers/{uuid}", version="2.1").status_code == 503
        assert ask(cloud, "GET", f"/servers/{uuid}", version="2.69").json()["server"]["status"] == "UNKNOWN"
    assert ask(cloud, "DELETE", f"/servers/{doomed}").status_code == 204
    made = cloud.user.post_server(availability_zone="nova:cell1-host1", name="meanwhile").json()["server"]["id"]
    cloud.until(lambda: ask(cloud, "GET", f"/servers/{made}").json()["server"]["status"] == "ACTIVE")

    before = [each["pid"] for each in cloud.document["processes"]]
    cloud.databases["cell2"].thaw()
    cloud.until(lambda: (answer := ask_again(cloud, doomed)) == 404 or Unmet(answer))
    bursts.settle(cloud)
    cloud.until_healthy()
    assert [each["pid"] for each in cloud.document["processes"]] == before
    shown = books.demand_balance(cloud)
    assert {uuid: each["status"] for uuid, each in shown.items()} == dict.fromkeys(
        [*frozen["cell1"], kept, made], "ACTIVE"
    )
    bursts.sweep(cloud)
    books.demand_nothing(cloud)


def ask_again(cloud: Installation, uuid: str) -> int:
    return cloud.user.ask("GET", f"/servers/{uuid}").status_code
