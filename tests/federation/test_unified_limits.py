"""Limits that the identity service keeps: read from there, counted here."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from api_cell.config import Quota, QuotaDriver
from cell_service.config import LimitSettings
from cell_service.context import ManualClock, internal
from cell_service.errors import PeerUnavailable
from cell_service.peers.limits import FRESH_SECONDS, UnifiedLimits
from tests.federation.cloud import Federation
from tests.suites.companions import Companions, start_companions

UNIFIED = Quota(driver=QuotaDriver.UNIFIED.value)


class Identity:
    """The identity companion, with the compute service registered, and a clock that decides what is fresh."""

    def __init__(self, companions: Companions, clock: ManualClock) -> None:
        self._companions, self._clock = companions, clock
        made = self.ask("POST", "/services", {"service": {"type": "compute", "name": "nova"}})
        self.service_id = made["service"]["id"]
        endpoint = {"service_id": self.service_id, "interface": "public", "url": "http://127.0.0.1/v2.1",
                    "region_id": "RegionOne"}  # fmt: skip
        self.endpoint_id = self.ask("POST", "/endpoints", {"endpoint": endpoint})["endpoint"]["id"]

    def ask(self, method: str, path: str, body: Any = None, status: int | None = None) -> Any:
        headers = {"X-Auth-Token": self._companions.token()}
        answer = requests.request(method, f"{self._companions.identity.url}/v3{path}", json=body, headers=headers,
                                  timeout=10)  # fmt: skip
        assert answer.ok if status is None else answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    def register(self, name: str, limit: int, **more: Any) -> Any:
        row = {"service_id": self.service_id, "resource_name": name, "default_limit": limit, **more}
        made = self.ask("POST", "/registered_limits", {"registered_limits": [row]}, 201)
        self._clock.advance(FRESH_SECONDS)
        return made["registered_limits"][0]

    def limit(self, project_id: str, name: str, limit: int, status: int = 201) -> Any:
        row = {"service_id": self.service_id, "resource_name": name, "resource_limit": limit, "project_id": project_id}
        made = self.ask("POST", "/limits", {"limits": [row]}, status)
        self._clock.advance(FRESH_SECONDS)
        return made

    def project(self, name: str) -> str:
        made = self.ask("POST", "/projects", {"project": {"name": name}})
        return str(made["project"]["id"])

    def source(self, **settings: Any) -> UnifiedLimits:
        return UnifiedLimits(self._companions.peer(LimitSettings, **settings), self._clock)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def companions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Companions]:
    made = start_companions(tmp_path_factory.mktemp("companions"))
    yield made
    made.close()


@pytest.fixture
def identity(companions: Companions, clock: ManualClock) -> Identity:
    return Identity(companions, clock)


@pytest.fixture
def limited(tmp_path_factory: pytest.TempPathFactory, identity: Identity) -> Iterator[Federation]:
    made = Federation(tmp_path_factory.mktemp("cloud"), cells=1, hosts=1, quota=UNIFIED, limits=identity.source())
    yield made
    made.close()


def test_many_at_once_never_get_more_than_the_limit(limited: Federation, identity: Identity) -> None:
    project = identity.project("many")
    for name, limit in (("servers", 1), ("class:VCPU", 100), ("class:MEMORY_MB", -1)):
        identity.register(name, limit)
    identity.limit(project, "servers", 3)
    users = [limited.user(f"u{number}", project) for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        statuses = list(pool.map(lambda user: limited.post_server(user).status, users))
    assert sorted(statuses) == [202] * 3 + [403] * 3
    assert limited.post_server(limited.user("other", identity.project("other")), min_count=2).status == 403
    shown = users[0].get("/limits").json["limits"]["absolute"]
    assert (shown["maxTotalInstances"], shown["totalInstancesUsed"], shown["maxTotalRAMSize"]) == (3, 3, -1)


def test_quota_sets_show_them_and_change_nothing(limited: Federation, identity: Identity) -> None:
    project = identity.project("shown")
    identity.register("servers", 7)
    identity.register("server_key_pairs", 0)
    identity.limit(project, "servers", 9)
    shown = limited.admin.get(f"/os-quota-sets/{project}").json["quota_set"]
    assert (shown["instances"], shown["key_pairs"], shown["cores"]) == (9, 0, -1)
    assert limited.admin.get(f"/os-quota-sets/{project}/defaults").json["quota_set"]["instances"] == 7
    assert limited.admin.get("/os-quota-class-sets/default").json["quota_class_set"]["instances"] == 7
    body = {"quota_set": {"instances": 20}}
    assert limited.admin.put(f"/os-quota-sets/{project}", body).fault[0] == "forbidden"
    assert limited.admin.delete(f"/os-quota-sets/{project}").status == 403
    assert limited.admin.put("/os-quota-class-sets/default", {"quota_class_set": {"cores": 1}}).status == 403
    assert limited.user("u", project).post("/os-keypairs", {"keypair": {"name": "k"}}).status == 403


def test_what_has_to_be_registered_and_is_not_nobody_may_have(limited: Federation) -> None:
    assert limited.post_server().status == 403


def test_the_last_limits_hold_while_the_identity_service_is_silent(
    identity: Identity, companions: Companions, clock: ManualClock
) -> None:
    identity.register("servers", 5)
    source, ctx = identity.source(), internal(clock)
    assert source.of_project(ctx, "p") == {"servers": 5}
    companions.identity.drain(2)
    clock.advance(FRESH_SECONDS)
    assert source.of_project(ctx, "p") == {"servers": 5}
    with pytest.raises(PeerUnavailable):
        source.of_project(ctx, "never asked for")


def test_limits_of_the_endpoints_region_come_first(identity: Identity, clock: ManualClock) -> None:
    identity.ask("POST", "/regions", {"region": {"id": "elsewhere"}})
    identity.register("servers", 5)
    identity.register("servers", 6, region_id="RegionOne")
    identity.register("class:VCPU", 7, region_id="elsewhere")
    source = identity.source(endpoint_id=identity.endpoint_id)
    assert source.defaults(internal(clock)) == {"servers": 6}


def test_the_companion_keeps_limits_as_keystone_does(identity: Identity) -> None:
    project = identity.project("kept")
    identity.limit(project, "servers", 5, status=403)
    made = identity.register("servers", 5)
    again = {"service_id": identity.service_id, "resource_name": "servers", "default_limit": 6}
    identity.ask("POST", "/registered_limits", {"registered_limits": [again]}, 409)
    identity.ask("POST", "/registered_limits", {"registered_limits": [again | {"default_limit": "6"}]}, 400)
    (own,) = identity.limit(project, "servers", 8)["limits"]
    identity.ask("DELETE", f"/registered_limits/{made['id']}", status=403)
    changed = identity.ask("PATCH", f"/limits/{own['id']}", {"limit": {"resource_limit": 9, "description": "more"}})
    assert (changed["limit"]["resource_limit"], changed["limit"]["description"]) == (9, "more")
    assert [one["resource_limit"] for one in identity.ask("GET", f"/limits?project_id={project}")["limits"]] == [9]
    identity.ask("DELETE", f"/limits/{own['id']}", status=204)
    identity.ask("DELETE", f"/registered_limits/{made['id']}", status=204)
    assert identity.ask("GET", "/limits/model")["model"]["name"] == "flat"
