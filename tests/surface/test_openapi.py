"""The service describes itself: an OpenAPI document for each microversion, and a page that needs nothing else."""

from __future__ import annotations

import re

import jsonschema
import pytest

from api_cell.compute.openapi import document
from api_cell.compute.routes import ROUTES
from api_cell.compute.titles import EXACT, title
from tests.edge.client import Client
from tests.edge.reference import parsed
from tests.surface.world import World


@pytest.mark.parametrize("version", ["2.1", "2.36", "2.104"])
def test_every_route_of_the_version_is_in_the_document(world: World, version: str) -> None:
    reply = world.admin.get(f"/v2.1/openapi.json?microversion={version}", whole=True, token=None)
    assert (reply.status, reply.json["info"]["version"]) == (200, version)
    told = {(method.upper(), path) for path, methods in reply.json["paths"].items() for method in methods}
    at = parsed(version)
    assert told == {(route.method, route.path) for route in ROUTES if route.min_version <= at <= route.max_version}
    for methods in reply.json["paths"].values():
        for operation in methods.values():
            assert operation["responses"]
            for content in operation.get("requestBody", {}).get("content", {}).values():
                jsonschema.Draft202012Validator.check_schema(content["schema"])


def test_operations_have_names_of_their_own() -> None:
    made = document(ROUTES, (2, 104))
    names = [operation["operationId"] for methods in made["paths"].values() for operation in methods.values()]
    assert len(names) == len(set(names))
    action = made["paths"]["/servers/{id}/action"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert {"os-start"} in [set(choice["required"]) for choice in action["oneOf"]]


@pytest.mark.parametrize("version", [(2, 1), (2, 104)])
def test_operations_are_grouped_titled_and_say_how_they_fail(version: tuple[int, int]) -> None:
    made = document(ROUTES, version)
    groups = {tag["name"] for tag in made["tags"]}
    refusals = made["components"]["responses"]
    for path, methods in made["paths"].items():
        for method, operation in methods.items():
            assert set(operation["tags"]) <= groups
            assert re.fullmatch(r"[A-Z][\w' ,]{3,70}", operation["summary"]), (method, path, operation["summary"])
            for code, answer in operation["responses"].items():
                if code[0] in "45":
                    assert len(refusals[answer["$ref"].rpartition("/")[2]]["description"]) > 10
    known = {(route.method, route.path) for route in ROUTES}
    assert set(EXACT) <= known
    assert made["components"]["securitySchemes"]["token"]["name"] == "X-Auth-Token"


@pytest.mark.parametrize(
    ("method", "path", "said"),
    [
        ("GET", "/servers", "List servers"),
        ("GET", "/servers/detail", "List servers with details"),
        ("PUT", "/servers/{id}", "Update a server"),
        ("POST", "/servers/{id}/action", "Act on a server"),
        ("GET", "/servers/{server_id}/ips/{id}", "Show an IP of a server"),
        ("DELETE", "/servers/{server_id}/tags", "Remove all tags from a server"),
        ("PUT", "/os-services/force-down", "Force down a service"),
    ],
)
def test_a_title_says_what_an_operation_does(method: str, path: str, said: str) -> None:
    assert title(method, path) == said


def test_no_document_of_versions_that_are_not(world: World) -> None:
    assert world.admin.get("/v2.1/openapi.json?microversion=2.105", whole=True, token=None).status == 406
    assert world.admin.get("/v2.1/openapi.json?microversion=x", whole=True, token=None).status == 400


def test_the_page_loads_nothing_from_elsewhere(world: World) -> None:
    reply = Client(world.cloud.api.port).get("/v2.1/docs", whole=True, token=None)
    assert reply.status == 200
    assert reply.headers["Content-Type"].startswith("text/html")
    assert not re.search(rb"(src|href)=\"?(https?:)?//", reply.raw)
    assert b'name="viewport"' in reply.raw


def test_a_browser_finds_its_way_from_the_root(world: World) -> None:
    client = Client(world.cloud.api.port)
    browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    page = client.get("/", whole=True, token=None, headers=browser)
    assert (page.status, page.headers["Content-Type"][:9], page.headers["Vary"]) == (200, "text/html", "Accept")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    links = re.findall(r'href="([^"]+)"', page.raw.decode())
    assert "v2.1/docs" in links
    assert [client.get(f"/{link}", whole=True, token=None).status for link in links] == [200] * len(links)
    assert client.get("/", whole=True, token=None, headers={"Accept": "*/*"}).json["versions"]
