"""What requests cost in statements: no more for many rows than for few, and none for ids that can be nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from api_cell.edge.route import Route
from bench.api import VERSIONS, costs, path_of, routes
from bench.api_writes import NEEDED, write_costs
from bench.counting import counted
from bench.small_cloud import SmallCloud

UNKNOWN = "3f0c7ac1-93c4-4e5b-8a54-1bd2b6f6cbb1"
OF_A_SERVER = [route for route in routes() if route.path.startswith("/servers/{")]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallCloud]:
    made = SmallCloud(tmp_path_factory.mktemp("few"), 2, 1)
    yield made
    made.close()


def test_no_route_runs_a_statement_for_each_row(cloud: SmallCloud, tmp_path: Path) -> None:
    many = SmallCloud(tmp_path, 24, 6)
    few_costs, many_costs = (list(costs(each, routes(), 0, runs=0)) for each in (cloud, many))
    many.close()
    assert [each.status for each in few_costs] == [each.status for each in many_costs]
    assert sum(each.status == 200 for each in many_costs) > 70
    grown = [(few.route, few.statements, more.statements)
             for few, more in zip(few_costs, many_costs, strict=True) if more.statements > few.statements]  # fmt: skip
    assert not grown


def test_no_action_and_nothing_made_costs_more_among_many_rows(tmp_path: Path) -> None:
    told = []
    for servers, others in ((NEEDED, 1), (4 * NEEDED, 6)):
        (tmp_path / str(servers)).mkdir()
        made = SmallCloud(tmp_path / str(servers), servers, others)
        told.append([(each.request, each.status, each.global_statements, each.cell_statements)
                     for each in write_costs(made)])  # fmt: skip
        made.close()
    assert told[0] == told[1]
    assert all(200 <= status < 300 for _, status, *_ in told[0])


def test_a_list_with_a_row_for_each_is_whole(tmp_path: Path) -> None:
    """So that lists which show nothing cannot pass for cheap ones."""
    many = SmallCloud(tmp_path, 24, 6)
    shown = {path: json.loads(many.ask(path, (2, 104)).body) for path in (
        "/servers/detail", "/os-hypervisors/detail", "/os-services", "/flavors/detail", "/os-keypairs",
        "/os-server-groups", "/os-aggregates", "/os-migrations",
    )}  # fmt: skip
    many.close()
    counts = {path: len(next(value for value in body.values() if isinstance(value, list)))
              for path, body in shown.items()}  # fmt: skip
    assert counts == {"/servers/detail": 24, "/os-hypervisors/detail": 12, "/os-services": 12, "/flavors/detail": 7,
                      "/os-keypairs": 6, "/os-server-groups": 6, "/os-aggregates": 6, "/os-migrations": 12}  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS)
def test_a_show_is_one_statement_to_one_cell(cloud: SmallCloud, version: tuple[int, int]) -> None:
    path = f"/servers/{cloud.uuids[0]}"
    cloud.ask(path, version)
    with counted(cloud.directory) as sent:
        assert cloud.ask(path, version).status == 200
    assert (sent.pop("global", 0), sent.total()) == (0, 1)


@pytest.mark.parametrize("route", OF_A_SERVER, ids=lambda route: route.path)
@pytest.mark.parametrize("wrong", ["nonsense", "1", "'; --", UNKNOWN[:-1], UNKNOWN.replace("3f", "zz"), "x" * 300])
def test_an_id_that_is_no_uuid_costs_no_statement(cloud: SmallCloud, route: Route, wrong: str) -> None:
    path = path_of(cloud, route.path, VERSIONS[-1]).replace(cloud.uuids[0], wrong)
    with counted(cloud.directory) as sent:
        assert cloud.ask(path, VERSIONS[-1]).status == 404
    assert sent.total() == 0


def test_an_unknown_uuid_is_asked_of_no_cell_and_of_the_mappings_once(cloud: SmallCloud) -> None:
    with counted(cloud.directory) as sent:
        for route in OF_A_SERVER:
            path = path_of(cloud, route.path, VERSIONS[-1]).replace(cloud.uuids[0], UNKNOWN)
            assert cloud.ask(path, VERSIONS[-1]).status == 404
    assert dict(sent) == {"global": 1}
