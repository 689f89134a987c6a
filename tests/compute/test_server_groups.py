"""Server groups: policies, owners and the quota."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from api_cell.config import ApiSection, ApiSettings, Quota
from tests.edge.client import Client
from tests.edge.compute_api import ComputeApi


def make(client: Client, version: str = "2.64", **group: Any) -> Any:
    return client.post("/os-server-groups", {"server_group": {"name": "g", **group}}, version=version)


@pytest.mark.parametrize(
    ("version", "group", "status"),
    [
        ("2.1", {"policies": ["affinity"]}, 200),
        ("2.1", {"policies": ["soft-affinity"]}, 400),
        ("2.15", {"policies": ["soft-affinity"]}, 200),
        ("2.15", {"policies": ["affinity", "anti-affinity"]}, 400),
        ("2.15", {"policies": []}, 400),
        ("2.63", {"policy": "affinity"}, 400),
        ("2.64", {"policies": ["affinity"]}, 400),
        ("2.64", {"policy": "anti-affinity", "rules": {"max_server_per_host": 3}}, 200),
        ("2.64", {"policy": "affinity", "rules": {"max_server_per_host": 3}}, 400),
        ("2.64", {"policy": "anti-affinity", "rules": {"max_server_per_host": 0}}, 400),
        ("2.64", {"policy": "anti-affinity", "rules": {"more": 1}}, 400),
        ("2.64", {"policy": "none"}, 400),
    ],
)
def test_policies_by_version(client: Client, version: str, group: dict[str, Any], status: int) -> None:
    assert make(client, version, **group).status == status


def test_a_group_is_its_projects(api: ComputeApi) -> None:
    ann, bob = api.as_user("ann", "p1"), api.as_user("bob", "p2")
    group = make(ann, policy="affinity").json["server_group"]

    assert group["project_id"] == "p1"
    assert bob.get(f"/os-server-groups/{group['id']}").status == 404
    assert bob.delete(f"/os-server-groups/{group['id']}").status == 404
    assert bob.get("/os-server-groups?all_projects=1").json == {"server_groups": []}
    assert api.client.get("/os-server-groups").json == {"server_groups": []}
    assert len(api.client.get("/os-server-groups?all_projects=1").json["server_groups"]) == 1
    assert ann.delete(f"/os-server-groups/{group['id']}").status == 204
    assert ann.delete(f"/os-server-groups/{group['id']}").status == 404


def test_pages(client: Client) -> None:
    made = [make(client, policy="affinity").json["server_group"]["id"] for _ in range(3)]
    page = client.get("/os-server-groups?limit=1&offset=1").json["server_groups"]
    assert [group["id"] for group in page] == made[1:2]


def test_the_quota_holds_and_is_given_back(tmp_path: Path) -> None:
    settings = ApiSettings(api=ApiSection(auth_strategy="noauth2"), quota=Quota(server_groups=1))
    api = ComputeApi(tmp_path, settings)
    try:
        first = make(api.client, policy="affinity").json["server_group"]
        assert make(api.client, policy="affinity").fault[0] == "forbidden"
        api.client.delete(f"/os-server-groups/{first['id']}")
        assert make(api.client, policy="affinity").status == 200
        assert api.client.get("/limits").json["limits"]["absolute"]["totalServerGroupsUsed"] == 1
    finally:
        api.close()
