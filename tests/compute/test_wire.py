"""Every success answer of the simple resources has the published status and shape, at versions all along the way."""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import pairwise
from typing import Any

import pytest

from api_cell.compute.policies import RULES
from api_cell.compute.routes import ROUTES
from api_cell.edge.route import Route
from api_cell.edge.versioned import after
from tests.edge import reference
from tests.edge.client import Client
from tests.edge.compute_api import ComputeApi
from tests.edge.reference import VERSIONS, check_answer, parsed

SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGjW2DMVvlm6bKzj5LnHGBJYQCXSm8xGLBOCyOnGxJSP ann@example"


class Checked:
    """A client whose every answer is held against the reference."""

    def __init__(self, client: Client, version: str) -> None:
        self._client, self.version = client, version

    def __call__(
        self, method: str, path: str, body: Any = None, *, action: str | None = None, query: str = "", **names: Any
    ) -> Any:
        reply = self._client.request(method, path.format(**names) + query, body, version=self.version)
        plain = reply.json if reply.raw else None
        check_answer(method, path, self.version, reply.status, plain, action)
        return plain


@pytest.fixture(params=VERSIONS)
def call(request: pytest.FixtureRequest, api: ComputeApi) -> Checked:
    reference.demand()
    return Checked(api.client, request.param)


def test_flavors(call: Checked) -> None:
    body: dict[str, Any] = {"name": "small", "ram": 512, "vcpus": "1", "disk": 1, "id": "s1"}
    if parsed(call.version) >= (2, 55):
        body["description"] = "a small one"
    call("POST", "/flavors", {"flavor": body})
    call("POST", "/flavors", {"flavor": {"name": "x", "ram": 1, "vcpus": 1, "disk": 0, "swap": 5, "id": None}})
    call("GET", "/flavors")
    call("GET", "/flavors/detail", query="?limit=1")
    call("GET", "/flavors/{id}", id="s1")
    if parsed(call.version) >= (2, 55):
        call("PUT", "/flavors/{id}", {"flavor": {"description": None}}, id="s1")
    call("POST", "/flavors/{flavor_id}/os-extra_specs", {"extra_specs": {"hw:numa_nodes": 1}}, flavor_id="s1")
    call("GET", "/flavors/{flavor_id}/os-extra_specs", flavor_id="s1")
    spec = {"flavor_id": "s1", "id": "hw:numa_nodes"}
    call("PUT", "/flavors/{flavor_id}/os-extra_specs/{id}", {"hw:numa_nodes": "2"}, **spec)
    assert call("GET", "/flavors/{flavor_id}/os-extra_specs/{id}", **spec) == {"hw:numa_nodes": "2"}
    call("GET", "/flavors/{id}", id="s1")
    call("DELETE", "/flavors/{flavor_id}/os-extra_specs/{id}", **spec)
    call("DELETE", "/flavors/{id}", id="s1")


def test_flavor_access(call: Checked) -> None:
    private = {"name": "p", "ram": 1, "vcpus": 1, "disk": 0, "id": "p1", "os-flavor-access:is_public": False}
    call("POST", "/flavors", {"flavor": private})
    access = {"addTenantAccess": {"tenant": "some-project"}}
    call("POST", "/flavors/{id}/action", access, action="addTenantAccess", id="p1")
    assert call("GET", "/flavors/{flavor_id}/os-flavor-access", flavor_id="p1") == {
        "flavor_access": [{"flavor_id": "p1", "tenant_id": "some-project"}]
    }
    access = {"removeTenantAccess": {"tenant": "some-project"}}
    call("POST", "/flavors/{id}/action", access, action="removeTenantAccess", id="p1")


def test_key_pairs(call: Checked) -> None:
    call("POST", "/os-keypairs", {"keypair": {"name": "imported", "public_key": SSH_KEY}})
    if parsed(call.version) < (2, 92):
        made = call("POST", "/os-keypairs", {"keypair": {"name": "made"}})
        assert made["keypair"]["private_key"].startswith("-----BEGIN")
    call("GET", "/os-keypairs", query="?limit=1")
    call("GET", "/os-keypairs/{id}", id="imported")
    call("DELETE", "/os-keypairs/{id}", id="imported")


def test_quotas_and_limits(call: Checked) -> None:
    call("GET", "/limits")
    call("GET", "/os-quota-sets/{id}", id="p")
    call("GET", "/os-quota-sets/{id}/detail", id="p")
    call("GET", "/os-quota-sets/{id}/defaults", id="p")
    call("PUT", "/os-quota-sets/{id}", {"quota_set": {"cores": 5, "ram": "-1"}}, id="p")
    call("PUT", "/os-quota-sets/{id}", {"quota_set": {"cores": 4, "force": True}}, id="p", query="?user_id=u")
    call("DELETE", "/os-quota-sets/{id}", id="p", query="?user_id=u")
    call("DELETE", "/os-quota-sets/{id}", id="p")
    call("GET", "/os-quota-class-sets/{id}", id="default")
    call("PUT", "/os-quota-class-sets/{id}", {"quota_class_set": {"instances": 3}}, id="default")


def test_server_groups(call: Checked) -> None:
    if parsed(call.version) >= (2, 64):
        group: dict[str, Any] = {"name": "g", "policy": "anti-affinity", "rules": {"max_server_per_host": "2"}}
    else:
        group = {"name": "g", "policies": ["affinity"]}
    made = call("POST", "/os-server-groups", {"server_group": group})
    call("GET", "/os-server-groups", query="?all_projects=1")
    call("GET", "/os-server-groups/{id}", id=made["server_group"]["id"])
    call("DELETE", "/os-server-groups/{id}", id=made["server_group"]["id"])


def test_aggregates(call: Checked, api: ComputeApi) -> None:
    api.add_host("cell1", "h1")
    made = call("POST", "/os-aggregates", {"aggregate": {"name": "a", "availability_zone": "z1"}})
    one = {"id": made["aggregate"]["id"]}
    call("POST", "/os-aggregates/{id}/action", {"add_host": {"host": "h1"}}, action="add_host", **one)
    metadata = {"set_metadata": {"metadata": {"ssd": "true", "old": None}}}
    call("POST", "/os-aggregates/{id}/action", metadata, action="set_metadata", **one)
    call("PUT", "/os-aggregates/{id}", {"aggregate": {"name": "b", "availability_zone": "z2"}}, **one)
    call("GET", "/os-aggregates")
    assert call("GET", "/os-aggregates/{id}", **one)["aggregate"]["hosts"] == ["h1"]
    call("POST", "/os-aggregates/{id}/action", {"remove_host": {"host": "h1"}}, action="remove_host", **one)
    call("DELETE", "/os-aggregates/{id}", **one)


def test_hosts(call: Checked, api: ComputeApi) -> None:
    service, node = api.add_host("cell1", "h1")
    api.add_host("cell2", "h2", disk_available_least_gib=5)
    by_uuid = parsed(call.version) >= (2, 53)
    call("GET", "/os-availability-zone")
    call("GET", "/os-availability-zone/detail")
    assert {s["host"] for s in call("GET", "/os-services")["services"]} == {"h1", "h2"}
    if by_uuid:
        disabled = {"status": "disabled", "disabled_reason": "broken"}
        call("PUT", "/os-services/{id}", disabled, id=service.uuid)
    else:
        body = {"host": "h1", "binary": "nova-compute"}
        call("PUT", "/os-services/{id}", body, id="disable")
        call("PUT", "/os-services/{id}", {**body, "disabled_reason": "broken"}, id="disable-log-reason")
        call("PUT", "/os-services/{id}", body, id="enable")
        if parsed(call.version) >= (2, 11):
            call("PUT", "/os-services/{id}", {**body, "forced_down": True}, id="force-down")
            call("PUT", "/os-services/{id}", {**body, "forced_down": False}, id="force-down")
    call("GET", "/os-hypervisors")
    call("GET", "/os-hypervisors/detail", query="?with_servers=true" if by_uuid else "")
    ids = [h["id"] for h in call("GET", "/os-hypervisors", query="?limit=1")["hypervisors"]]
    call("GET", "/os-hypervisors/{id}", id=ids[0])
    if parsed(call.version) < (2, 88):
        call("GET", "/os-hypervisors/statistics")
        call("GET", "/os-hypervisors/{id}/uptime", id=ids[0])
    if not by_uuid:
        call("GET", "/os-hypervisors/{id}/search", id="h")
        call("GET", "/os-hypervisors/{id}/servers", id="h")
    else:
        call("DELETE", "/os-services/{id}", id=service.uuid)
        assert node.uuid not in {h["id"] for h in call("GET", "/os-hypervisors")["hypervisors"]}


def test_the_table_has_only_published_routes() -> None:
    reference.demand()
    known = reference.routes()
    ours: dict[tuple[str, str, str | None], list[Route]] = defaultdict(list)
    for route in ROUTES:
        ours[route.method, reference._plain(route.path), route.action].append(route)
    for key, routes in ours.items():
        routes.sort(key=lambda route: route.min_version)
        assert all(after(one.max_version) == other.min_version for one, other in pairwise(routes)), key
        assert routes[0].min_version == min(parsed(row["min_version"]) for row in known[key]), key
        if routes[-1].max_version != (2, 9999):
            assert routes[-1].max_version == max(parsed(row["max_version"]) for row in known[key]), key


def test_what_was_removed_is_gone(client: Client) -> None:
    reference.demand()
    for (method, path, action), rows in reference.routes().items():
        if rows[0].get("removed_status") == 410:
            body = {action: None} if action else {}
            reply = client.request(method, path.replace("{}", "x"), None if method in ("GET", "DELETE") else body)
            assert reply.json["computeFault"]["code"] == reply.status == 410, (method, path)


def test_the_rules_and_their_defaults_are_the_published_ones() -> None:
    reference.demand()
    published = json.loads((reference.FOLDER / "policies.json").read_text())
    assert {rule.name: rule.check for rule in RULES} == {row["rule"]: row["check_str"] for row in published}
    former = {row["rule"]: row["deprecated_rule"] for row in published if "deprecated_rule" in row}
    assert {rule.name: (rule.former.name, rule.former.check) for rule in RULES if rule.former} == {
        name: (row["name"], row["check_str"]) for name, row in former.items()
    }


def test_every_rule_of_the_table_exists() -> None:
    names = {rule.name for rule in RULES}
    assert {route.rule for route in ROUTES if route.rule} <= names
