"""Which route of a companion serves a request."""

from __future__ import annotations

import pytest

from cell_service.errors import BadMethod, NotFound
from cell_service.http.response import Response
from tools.companions.route import CompanionRoute, RouteTable

ROUTES = (
    ("GET", "/"),
    ("GET", "/things"),
    ("GET", "/things/detail"),
    ("GET", "/things/{id}"),
    ("DELETE", "/things/{id}"),
    ("PUT", "/things/{thing}/tags/{tag}"),
    ("GET", "/{project}/things/{id}"),
)
TABLE = RouteTable(CompanionRoute(method, path, lambda request: Response(200)) for method, path in ROUTES)


@pytest.mark.parametrize(
    ("method", "path", "served_by", "params"),
    [
        ("GET", "/", "/", {}),
        ("GET", "/things/", "/things", {}),
        ("GET", "/things.json", "/things", {}),
        ("HEAD", "/things/7", "/things/{id}", {"id": "7"}),
        ("GET", "/things/detail", "/things/detail", {}),
        ("DELETE", "/things/detail", "/things/{id}", {"id": "detail"}),
        ("PUT", "/things/7/tags/a%2Fb", "/things/{thing}/tags/{tag}", {"thing": "7", "tag": "a/b"}),
        ("GET", "/p1/things/7", "/{project}/things/{id}", {"project": "p1", "id": "7"}),
    ],
)
def test_a_request_has_its_route(method: str, path: str, served_by: str, params: dict[str, str]) -> None:
    route, found = TABLE.find(method, path)
    assert (route.path, found) == (served_by, params)


def test_another_method_is_told_which_are_allowed() -> None:
    with pytest.raises(BadMethod) as refused:
        TABLE.find("PATCH", "/things/7")
    assert refused.value.fields["allow"] == "DELETE, GET"


@pytest.mark.parametrize("path", ["/thing", "/things/7/tags", "/things//tags/a", "/things/%00"])
def test_other_paths_are_not_found(path: str) -> None:
    with pytest.raises(NotFound):
        TABLE.find("PUT" if "tags" in path else "GET", path)


def test_no_two_routes_are_alike() -> None:
    twice = [CompanionRoute("GET", path, lambda request: Response(200)) for path in ("/things/{id}", "/things/{name}")]
    with pytest.raises(AssertionError, match="two routes"):
        RouteTable(twice)
