"""The service describes itself: an OpenAPI document for each microversion, and a page that needs nothing else."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path
from posixpath import normpath
from typing import Any
from urllib.parse import urljoin

import jsonschema
import pytest

from api_cell.compute import examples
from api_cell.compute.example_answers import ANSWERS
from api_cell.compute.history import NEWEST
from api_cell.compute.openapi import document
from api_cell.compute.routes import ROUTES
from api_cell.compute.titles import EXACT, title
from api_cell.compute.web import files
from api_cell.edge.schema import BODY, Validator
from tests.edge.client import Client
from tests.edge.reference import parsed
from tests.suites.peers import NET
from tests.surface.samples import differences
from tests.surface.world import SSH_KEY, World


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


def bodies(version: tuple[int, int]) -> Iterator[tuple[str, str, dict[str, Any], Any]]:
    """Of each operation with a body: method, path, schema and each example."""
    for path, methods in document(ROUTES, version)["paths"].items():
        for method, operation in methods.items():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                shown = [each["value"] for each in content.get("examples", {}).values()]
                for example in shown or [content["example"]]:
                    yield method.upper(), path, content["schema"], example


SINCE = sorted(
    {since for route in ROUTES if isinstance(route.body, tuple) for since, _ in route.body} - {(0, 0)}
    | {(2, 1), (2, 104)}
)


@pytest.mark.parametrize("version", SINCE, ids=str)
def test_every_body_has_an_example_that_fits_its_schema(version: tuple[int, int]) -> None:
    for method, path, schema, example in bodies(version):
        fitting = schema
        if "action" in path:
            (action,) = example
            (fitting,) = [each for each in schema["oneOf"] if each["required"] == [action]]
        Validator.of(fitting).check(example, BODY)
        assert example or schema == {"type": "object"}, (method, path)


def test_no_example_is_of_an_operation_that_is_not() -> None:
    assert set(examples.BODIES) <= {(route.method, route.path) for route in ROUTES if route.body is not None}
    assert set(examples.ACTIONS) <= {route.action for route in ROUTES if route.body is not None}


@pytest.mark.parametrize(("method", "path"), sorted(ANSWERS))
def test_an_example_of_an_answer_is_shaped_as_the_answer(world: World, method: str, path: str) -> None:
    example = ANSWERS[method, path]
    found = path.replace("{server_id}", world.server())
    found = found.replace("{id}", {"/servers/{id}": world.server(), "/flavors/{id}": "1"}.get(path, "admin-project"))
    sent = {
        "/servers": {"server": {"name": "n", "flavorRef": "1", "imageRef": world.cloud.image_id,
                                "networks": [{"uuid": NET}]}},
        "/os-keypairs": {"keypair": {"name": "shown", "public_key": SSH_KEY}},
        "/servers/{server_id}/remote-consoles": {"remote_console": {"protocol": "serial", "type": "serial"}},
    }  # fmt: skip
    if method == "GET" and path in ("/servers", "/servers/detail"):
        found += f"?uuid={world.server()}"  # other tests' servers may be in states that show less
    reply = world.admin.request(method, found, sent[path] if method == "POST" else None, version="2.104")
    assert differences(example, reply.json) == []
    (answer,) = [
        code for code in document(ROUTES, NEWEST)["paths"][path][method.lower()]["responses"] if code[0] == "2"
    ]
    assert answer == str(reply.status)


def test_no_document_of_versions_that_are_not(world: World) -> None:
    assert world.admin.get("/v2.1/openapi.json?microversion=2.105", whole=True, token=None).status == 406
    assert world.admin.get("/v2.1/openapi.json?microversion=x", whole=True, token=None).status == 400


BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture
def anyone(world: World) -> Iterator[Client]:
    made = Client(world.cloud.api.port, token=None)
    yield made
    made.close()


def test_the_page_and_its_files_come_from_here_alone(anyone: Client) -> None:
    page = anyone.get("/v2.1/docs", whole=True)
    assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert b'name="viewport"' in page.raw
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
    assert "unsafe" not in policy
    links = re.findall(r'(?:src|href)="([^"]+)"', page.raw.decode())
    assert sum("?v=" in link for link in links) == 4
    assert not [link for link in links if ":" in link or link.startswith("/")]
    for link in links:
        assert anyone.get(normpath(f"/v2.1/{link}"), whole=True).status == 200


def test_no_vendored_file_is_left_out_and_no_other_file_is_served(anyone: Client) -> None:
    place = Path(files.__file__).parent
    vendored = {f"swagger_ui/{each.name}" for each in (place / "swagger_ui").iterdir()}
    assert vendored - set(files.SERVED) == {"swagger_ui/README.md"}
    for name in files.SERVED:
        assert anyone.get(f"/v2.1/docs/{name}", whole=True).raw == (place / name).read_bytes()


@pytest.mark.parametrize(
    "path",
    ["files.py", "swagger_ui/README.md", "swagger_ui/", "../documents.py", "swagger_ui/../files.py", "page.css%00.py",
     "%2e%2e/documents.py", "..%2fdocuments.py", "swagger_ui/..%5c..%5cfiles.py", "//etc/passwd"],
)  # fmt: skip
def test_no_path_leads_to_another_file(anyone: Client, path: str) -> None:
    answer = anyone.get(f"/v2.1/docs/{path}", whole=True)
    assert (answer.status, answer.headers["Content-Type"]) in ((404, "application/json"), (401, "application/json"))
    assert b"import" not in answer.raw


def test_files_are_kept_by_browsers_and_sent_compressed(anyone: Client) -> None:
    address = "/v2.1/docs/swagger_ui/swagger-ui-bundle.js"
    plain = anyone.get(address, whole=True)
    small = anyone.get(address, whole=True, headers={"Accept-Encoding": "br, gzip"})
    assert (small.headers["Content-Encoding"], small.headers["Vary"]) == ("gzip", "Accept-Encoding")
    assert gzip.decompress(small.raw) == plain.raw
    assert len(small.raw) < len(plain.raw) / 3
    assert "Content-Encoding" not in anyone.get(address, whole=True, headers={"Accept-Encoding": "gzip;q=0"}).headers
    assert plain.headers["Cache-Control"] == "no-cache"
    again = anyone.get(address, whole=True, headers={"If-None-Match": plain.headers["ETag"]})
    assert (again.status, again.raw, again.headers["ETag"]) == (304, b"", plain.headers["ETag"])
    assert anyone.get(address, whole=True, headers={"If-None-Match": 'W/"other"'}).status == 200
    named = anyone.get(f"{address}?v={plain.headers['ETag'][3:-1]}", whole=True)
    assert named.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert anyone.get(f"{address}?v=other", whole=True).headers["Cache-Control"] == "no-cache"
    document = anyone.get("/v2.1/openapi.json", whole=True)
    again = anyone.get("/v2.1/openapi.json", whole=True, headers={"If-None-Match": document.headers["ETag"]})
    assert again.status == 304


@pytest.mark.parametrize(
    ("path", "to"),
    [("/docs", "v2.1/docs"), ("/docs/", "../v2.1/docs"), ("/v2.1/docs/", "../docs")],
)
def test_other_addresses_of_the_page_lead_to_it(anyone: Client, path: str, to: str) -> None:
    answer = anyone.get(path, whole=True, headers=BROWSER)
    assert (answer.status, answer.headers["Location"]) == (302, to)
    assert urljoin(path, to) == "/v2.1/docs"


def test_a_browser_finds_an_icon(anyone: Client) -> None:
    answer = anyone.get("/favicon.ico", whole=True, headers={"Accept": "image/*"})
    assert (answer.status, answer.headers["Content-Type"], answer.raw[:4]) == (200, "image/x-icon", b"\0\0\1\0")


def test_a_browser_finds_its_way_from_the_root(anyone: Client) -> None:
    page = anyone.get("/", whole=True, headers=BROWSER)
    assert (page.status, page.headers["Content-Type"][:9]) == (200, "text/html")
    assert page.headers["Vary"] == "Accept, Accept-Encoding"
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    links = re.findall(r'href="([^"]+)"', page.raw.decode())
    assert "v2.1/docs" in links
    assert [anyone.get(f"/{link}", whole=True).status for link in links] == [200] * len(links)
    programs = anyone.get("/", whole=True, headers={"Accept": "*/*"})
    assert (len(programs.json["versions"]), programs.headers["Vary"]) == (2, "Accept")
