"""Lists over cells: order, pages, filters, and what they cost when a cell is silent."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.federation.cloud import Federation


@pytest.fixture(scope="session")
def listed(shared_cloud: Federation) -> Iterator[list[str]]:
    """Seven servers of one project over both cells, in the order they were made."""
    user = shared_cloud.user("lister", "list-project")
    with shared_cloud.running():
        made = [shared_cloud.boot(user, name=f"list-{number}", metadata={"number": str(number)}) for number in range(7)]
    yield made
    with shared_cloud.running():
        for uuid in made:
            user.delete(f"/servers/{uuid}")


def pages(cloud: Federation, query: str, limit: int = 3) -> list[str]:
    """The ids of all pages, following the links."""
    user = cloud.user("lister", "list-project")
    found: list[str] = []
    path = f"/servers?limit={limit}{query}"
    for _ in range(10):
        answer = user.get(path, version="2.96").json
        found += [each["id"] for each in answer["servers"]]
        if "servers_links" not in answer:
            break
        path = answer["servers_links"][0]["href"].split("/v2.1", 1)[1]
    return found


@pytest.mark.parametrize("query", ["", "&name=list-"])
def test_pages_are_whole_and_newest_first(cloud: Federation, listed: list[str], query: str) -> None:
    assert pages(cloud, query) == listed[::-1]


@pytest.mark.parametrize("query", ["&sort_key=display_name&sort_dir=asc", "&sort_key=created_at&sort_dir=asc"])
def test_sorted_pages_are_merged_over_cells(cloud: Federation, listed: list[str], query: str) -> None:
    assert pages(cloud, query) == listed


@pytest.mark.parametrize(
    ("query", "indices"),
    [
        ("name=list-[35]$", [5, 3]),
        ("status=ACTIVE&limit=2", [6, 5]),
        ("status=SHUTOFF", []),
        ('metadata={"number":"4"}', [4]),
        ("vm_state=active&sort_key=display_name&sort_dir=asc&limit=1", [0]),
        ("flavor=nosuch", []),
        ("deleted=true", [6, 5, 4, 3, 2, 1, 0]),
    ],
)
def test_filters(cloud: Federation, listed: list[str], query: str, indices: list[int]) -> None:
    user = cloud.user("lister", "list-project")
    servers = user.get(f"/servers?{query}", version="2.96").json["servers"]
    assert [each["id"] for each in servers] == [listed[index] for index in indices]


@pytest.mark.parametrize(
    "query", ["limit=-1", "marker=nonsense", "sort_key=nosuch", "status=NOSUCH", "changes-since=x"]
)
def test_bad_queries_are_refused(cloud: Federation, listed: list[str], query: str) -> None:
    assert cloud.admin.get(f"/servers?{query}", version="2.96").status == 400


def test_a_silent_cell_costs_only_its_own_servers(own_cloud: Federation) -> None:
    cloud = own_cloud
    near, far = cloud.boot(cell="cell1"), cloud.boot(cell="cell2")
    cloud.silence("cell2")

    listed = cloud.admin.get("/servers/detail", version="2.69").json["servers"]
    assert {each["id"]: each["status"] for each in listed} == {near: "ACTIVE", far: "UNKNOWN"}
    assert [each["id"] for each in listed] == [far, near]
    assert cloud.show(far, version="2.69")["status"] == "UNKNOWN"
    refused = cloud.admin.get(f"/servers/{far}", version="2.68")
    assert refused.status == 503
    assert "Retry-After" in refused.headers
    assert cloud.act(far, "os-stop").status == 503
    assert [each["id"] for each in cloud.admin.get("/servers", version="2.1").json["servers"]] == [near]

    assert cloud.admin.delete(f"/servers/{far}").status == 204
    cloud.wake("cell2")
    cloud.until(lambda: cloud.gone(far))
    cloud.until(lambda: far not in cloud.allocations())
    assert cloud.show(near)["status"] == "ACTIVE"
