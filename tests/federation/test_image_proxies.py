"""Images through the Compute API, to 2.35: lists, filters, pages, metadata, and whose they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.edge.client import Client
from tests.federation.cloud import Federation

OLD = "2.35"
LATER = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    made = Federation(tmp_path_factory.mktemp("cloud"), cells=1, hosts=1)
    yield made
    made.close()


@pytest.fixture
def demo(cloud: Federation) -> Iterator[Client]:
    """Of a project that has `small`, `large` and a snapshot; nothing else is there."""
    cloud.images.records.clear()
    for name, fields in {
        "small": {"min_disk_gib": 1},
        "large": {"min_disk_gib": 50, "updated_at": LATER, "properties": {"hw_machine_type": "q35"}},
        "snapshot": {"status": "queued", "properties": {"image_type": "snapshot", "instance_uuid": SERVER}},
    }.items():
        cloud.images.add(name=name, visibility="private", owner="demo-project", **fields)
    return cloud.user("demo", "demo-project")


SERVER = "6a2b0a3c-4d5e-4f60-8a1b-2c3d4e5f6071"


def names(client: Client, query: str = "") -> list[str]:
    answer = client.get(f"/images/detail{query}", version=OLD)
    assert answer.status == 200, answer.raw
    return [image["name"] for image in answer.json["images"]]


def id_of(client: Client, name: str) -> str:
    return next(image["id"] for image in client.get("/images", version=OLD).json["images"] if image["name"] == name)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["snapshot", "large", "small"]),
        ("?name=large", ["large"]),
        ("?status=active", ["large", "small"]),
        ("?status=SAVING", ["snapshot"]),
        ("?type=snapshot", ["snapshot"]),
        (f"?server=http://cloud/v2.1/servers/{SERVER}", ["snapshot"]),
        ("?minDisk=50", ["large"]),
        ("?property-hw_machine_type=q35", ["large"]),
        ("?changes-since=2026-04-01T00:00:00Z", ["large"]),
        ("?limit=1&offset=1", ["large"]),
        ("?status=unknown", []),
        ("?status=nonsense", []),
        ("?minRam=many", []),
        ("?minDisk=99999999999999999999", []),
        ("?name=none", []),
    ],
)
def test_a_list_has_what_the_query_asks_for(demo: Client, query: str, found: list[str]) -> None:
    assert names(demo, query) == found


def test_pages_follow_each_other(demo: Client) -> None:
    seen, path = [], "/v2.1/images?limit=2"
    while path:
        answer = demo.get(path, version=OLD, whole=True).json
        seen += [image["name"] for image in answer["images"]]
        link = answer.get("images_links", [{"href": ""}])[0]["href"]
        path = link[link.index("/v2.1/") :] if link else ""
    assert seen == ["snapshot", "large", "small"]
    assert demo.get("/images?marker=none", version=OLD).status == 400


def test_a_page_after_an_offset_begins_where_the_last_one_ended(demo: Client) -> None:
    first = demo.get("/images?limit=1&offset=1", version=OLD).json
    path = first["images_links"][0]["href"]
    rest = demo.get(path[path.index("/v2.1/") :], version=OLD, whole=True).json
    assert [image["name"] for image in (*first["images"], *rest["images"])] == ["large", "small"]


def test_images_of_others_are_listed_once_they_are_accepted(cloud: Federation, demo: Client) -> None:
    shared = cloud.images.add(name="shared", visibility="shared", owner="other-project")
    cloud.images.add(name="community", visibility="community", owner="other-project")
    assert "shared" not in names(demo)
    cloud.images.accepted.add((shared, "demo-project"))
    assert names(demo) == ["shared", "snapshot", "large", "small"]


def test_a_snapshot_is_shown_with_its_server(demo: Client) -> None:
    shown = demo.get(f"/images/{id_of(demo, 'snapshot')}", version=OLD).json["image"]
    assert (shown["status"], shown["progress"], shown["server"]["id"]) == ("SAVING", 25, SERVER)
    assert [link["rel"] for link in shown["links"]] == ["self", "bookmark", "alternate"]


def test_metadata_is_read_and_changed(demo: Client) -> None:
    path = f"/images/{id_of(demo, 'large')}/metadata"

    def now() -> Any:
        return demo.get(path, version="2.38").json["metadata"]

    assert demo.post(path, {"metadata": {"a": "1"}}, version="2.38").json["metadata"] == now()
    assert now() == {"hw_machine_type": "q35", "a": "1"}
    assert demo.put(f"{path}/a", {"meta": {"a": "2"}}).json == {"meta": {"a": "2"}}
    assert demo.put(f"{path}/a", {"meta": {"b": "2"}}).status == 400
    assert demo.get(f"{path}/a").json == {"meta": {"a": "2"}}
    assert demo.delete(f"{path}/a").status == 204
    assert demo.delete(f"{path}/a").status == demo.get(f"{path}/a").status == 404
    assert demo.put(path, {"metadata": {"only": "this"}}).json == {"metadata": now()} == {"metadata": {"only": "this"}}


def test_more_metadata_than_the_quota_allows_is_refused(demo: Client) -> None:
    many = {f"key{number}": "v" for number in range(129)}
    assert demo.put(f"/images/{id_of(demo, 'small')}/metadata", {"metadata": many}).status == 403


def test_what_is_another_projects_stays_as_it_is(cloud: Federation, demo: Client) -> None:
    private, public = id_of(demo, "large"), id_of(demo, "small")
    cloud.images.records[public] = replace(cloud.images.records[public], visibility="public")
    before = dict(cloud.images.records)
    stranger = cloud.user("mallory", "mallory-project")
    assert names(stranger) == ["small"]
    for image_id, status in ((private, 404), (public, 403)):
        assert stranger.delete(f"/images/{image_id}").status == status
        assert stranger.post(f"/images/{image_id}/metadata", {"metadata": {"a": "1"}}).status == status
    assert cloud.images.records == before
    assert demo.delete(f"/images/{private}").status == 204
    assert demo.get(f"/images/{private}").status == 404


def test_later_versions_have_no_images(demo: Client) -> None:
    one = id_of(demo, "small")
    assert demo.get("/images", version="2.36").status == demo.get(f"/images/{one}", version="2.36").status == 404
    assert demo.get(f"/images/{one}/metadata", version="2.39").status == 404
