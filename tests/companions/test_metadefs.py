"""Metadata definitions, tasks, locations and versions of the image companion (Image API reference, v2)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import requests

from api_cell.edge.auth import NoAuth
from tools.companions.app import Companion
from tools.companions.image.metadefs import ROOT
from tools.companions.image.service import make_image

NAMESPACE = {
    "namespace": "OS::Compute::Odd", "display_name": "Odd", "visibility": "public",
    "properties": {"hw:odd": {"title": "Odd", "type": "boolean"}},
    "objects": [{"name": "thing", "properties": {"a": {"type": "string"}}}], "tags": [{"name": "blue"}],
    "resource_type_associations": [{"name": "OS::Nova::Flavor", "prefix": "hw:"}],
}  # fmt: skip


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Companion]:
    made = make_image(tmp_path, NoAuth())
    made.start()
    yield made
    made.drain(2)


def send(image: Companion, by: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    answer = requests.request(method, image.url + path, json=body, headers={"X-Auth-Token": by}, timeout=10)
    return answer.status_code, answer.json() if answer.content else None


def test_there_are_no_namespaces_at_first(image: Companion) -> None:
    assert send(image, "user:p1", "GET", ROOT) == (
        200, {"namespaces": [], "first": ROOT, "schema": "/v2/schemas/metadefs/namespaces"}
    )  # fmt: skip


def test_a_namespace_is_made_shown_changed_and_deleted(image: Companion) -> None:
    one = f"{ROOT}/OS::Compute::Odd"
    assert send(image, "user:p1", "POST", ROOT, NAMESPACE)[0] == 403
    status, made = send(image, "admin:p1", "POST", ROOT, NAMESPACE)
    assert (status, made["owner"], made["properties"]["hw:odd"]["title"]) == (201, "p1", "Odd")
    assert send(image, "admin:p1", "POST", ROOT, NAMESPACE)[0] == 409
    status, shown = send(image, "user:p2", "GET", one)
    assert (status, shown) == (200, made)
    jsonschema.validate(shown, send(image, "user:p2", "GET", "/v2/schemas/metadefs/namespace")[1])
    changed = {"namespace": "OS::Compute::Odd", "visibility": "private", "protected": True}
    assert send(image, "admin:p1", "PUT", one, changed)[1]["protected"] is True
    assert send(image, "user:p2", "GET", one)[0] == 404
    assert send(image, "user:p1", "GET", one)[0] == 200
    assert send(image, "admin:p1", "DELETE", one)[0] == 403
    assert send(image, "admin:p1", "PUT", one, {**changed, "protected": False})[0] == 200
    assert send(image, "admin:p1", "DELETE", one)[0] == 204
    assert send(image, "admin:p1", "GET", one)[0] == 404


def test_lists_are_by_resource_type_and_in_pages(image: Companion) -> None:
    for name in ("a", "b", "c"):
        assert send(image, "admin:p1", "POST", ROOT, {**NAMESPACE, "namespace": name})[0] == 201
    bare = {"namespace": "d", "visibility": "public"}
    assert send(image, "admin:p1", "POST", ROOT, bare)[0] == 201

    def names(query: str) -> list[str]:
        return [one["namespace"] for one in send(image, "user:p2", "GET", f"{ROOT}?{query}")[1]["namespaces"]]

    assert names("resource_types=OS::Nova::Flavor,OS::Glance::Image") == ["a", "b", "c"]
    assert names("limit=2") == ["a", "b"]
    assert names("limit=2&marker=b") == ["c", "d"]
    assert send(image, "user:p2", "GET", "/v2/metadefs/resource_types")[1] == {
        "resource_types": [{"name": "OS::Nova::Flavor"}]
    }


@pytest.mark.parametrize(
    ("part", "key", "entry"),
    [
        ("properties", "properties", {"name": "new", "title": "New", "type": "string"}),
        ("objects", "objects", {"name": "new"}),
        ("tags", "tags", {"name": "new"}),
        ("resource_types", "resource_type_associations", {"name": "new"}),
    ],
)
def test_the_parts_of_a_namespace(image: Companion, part: str, key: str, entry: dict[str, Any]) -> None:
    send(image, "admin:p1", "POST", ROOT, NAMESPACE)
    path = f"{ROOT}/OS::Compute::Odd/{part}"
    assert send(image, "user:p1", "POST", path, entry)[0] == 403
    assert send(image, "admin:p1", "POST", path, entry) == (201, entry)
    assert send(image, "admin:p1", "POST", path, entry)[0] == 409
    assert send(image, "user:p1", "GET", f"{path}/new") == (200, entry)
    assert len(send(image, "user:p1", "GET", path)[1][key]) == 2
    assert send(image, "admin:p1", "DELETE", f"{path}/new")[0] == 204
    assert send(image, "admin:p1", "DELETE", f"{path}/new")[0] == 404
    assert send(image, "user:p1", "GET", f"{path}/new")[0] == 404


@pytest.mark.parametrize(
    "odd",
    [
        {}, {"namespace": 5}, {"namespace": "n", "visibility": "x"}, {"namespace": "n", "objects": ["x"]},
        {"namespace": "n", "properties": []},
    ],
)  # fmt: skip
def test_what_is_no_namespace_is_refused(image: Companion, odd: Any) -> None:
    assert send(image, "admin:p1", "POST", ROOT, odd)[0] == 400


@pytest.mark.parametrize(
    "name",
    [
        "namespace", "namespaces", "object", "objects", "property", "properties", "tag", "tags", "resource_type",
        "resource_types",
    ],
)  # fmt: skip
def test_schemas_of_definitions_are_published(image: Companion, name: str) -> None:
    status, schema = send(image, "user:p1", "GET", f"/v2/schemas/metadefs/{name}")
    assert (status, schema["name"]) == (200, name)


def test_an_image_has_no_tasks_and_its_location_is_for_services(image: Companion) -> None:
    made = send(image, "user:p1", "POST", "/v2/images", {"name": "i"})[1]["id"]
    one = f"/v2/images/{made}"
    assert send(image, "user:p1", "GET", f"{one}/tasks") == (200, {"tasks": []})
    assert send(image, "user:p2", "GET", f"{one}/tasks")[0] == 404
    assert send(image, "admin:p1", "GET", "/v2/tasks")[1]["tasks"] == []
    assert send(image, "admin:p1", "GET", "/v2/tasks/nothing")[0] == 404
    assert send(image, "user:p1", "GET", "/v2/tasks")[0] == 403
    assert send(image, "user:p1", "GET", f"{one}/locations")[0] == 403
    assert send(image, "admin:p1", "GET", f"{one}/locations") == (200, [])
    assert send(image, "user:p1", "POST", f"{one}/locations", {"url": "http://x"})[0] == 400


def test_the_newest_version_is_the_current_one(image: Companion) -> None:
    versions = send(image, "user:p1", "GET", "/versions")[1]["versions"]
    assert [one["id"] for one in versions if one["status"] == "CURRENT"] == ["v2.17"]
