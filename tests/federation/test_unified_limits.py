"""Limits that the identity service keeps: read from there, counted here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
import requests
from sqlalchemy import delete

from api_cell.config import Quota, QuotaDriver
from cell_service.context import ManualClock, internal
from cell_service.errors import PeerUnavailable
from cell_service.peers.limits import VALID_SECONDS, UnifiedLimits
from cell_service.peers.settings import LimitSettings
from mapping_db import class_usage
from mapping_db.schema import quota_usages
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
        self._clock.advance(VALID_SECONDS)
        return made["registered_limits"][0]

    def limit(self, project_id: str, name: str, limit: int, status: int = 201) -> Any:
        row = {"service_id": self.service_id, "resource_name": name, "resource_limit": limit, "project_id": project_id}
        made = self.ask("POST", "/limits", {"limits": [row]}, status)
        self._clock.advance(VALID_SECONDS)
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
    made = Federation(tmp_path_factory.mktemp("cloud"), cells=1, hosts=2, quota=UNIFIED, limits=identity.source())
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


def flavor(cloud: Federation, extra: dict[str, str] | None = None, **sizes: int) -> str:
    """A new flavor's id."""
    name = uuid4().hex
    body = {"flavor": {"id": name, "name": name, "vcpus": 1, "ram": 64, "disk": 1, **sizes}}
    assert cloud.admin.post("/flavors", body).status == 200
    if extra:
        assert cloud.admin.post(f"/flavors/{name}/os-extra_specs", {"extra_specs": extra}).status == 200
    return name


def counted(cloud: Federation, project: str, *names: str) -> list[int]:
    with cloud.db.connect() as tx:
        found = class_usage.used_by(tx, project, [f"class:{name}" for name in names])
    return list(found.values())


@pytest.mark.parametrize(
    ("resource", "extra", "sizes", "each"),
    [
        ("CUSTOM_GOLD", {"resources:CUSTOM_GOLD": "2"}, {}, 2),
        ("VGPU", {"resources1:VGPU": "1", "resources2:VGPU": "1"}, {}, 2),
        ("PCPU", {"hw:cpu_policy": "dedicated"}, {"vcpus": 2}, 2),
        ("DISK_GB", {}, {"disk": 3, "OS-FLV-EXT-DATA:ephemeral": 1, "swap": 1}, 5),
        ("MEMORY_MB", {"resources:MEMORY_MB": "7"}, {}, 7),
    ],
)
def test_every_class_that_a_flavor_asks_for_has_its_limit(
    limited: Federation, identity: Identity, resource: str, extra: dict[str, str], sizes: dict[str, int], each: int
) -> None:
    project, asked = identity.project("classes"), flavor(limited, extra, **sizes)
    identity.register("servers", -1)
    identity.register(f"class:{resource}", each * 3 + 1)
    users = [limited.user(f"u{number}", project) for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda user: limited.post_server(user, flavorRef=asked), users))
    assert Counter(answer.status for answer in answers) == {202: 3, 403: 3}
    assert f"class:{resource}" in next(answer for answer in answers if answer.status == 403).fault[1]
    assert counted(limited, project, resource) == [each * 3]
    made = [answer.json["server"]["id"] for answer in answers if answer.status == 202]
    assert users[0].delete(f"/servers/{made[0]}").status == 204
    assert counted(limited, project, resource) == [each * 2]
    few = limited.post_server(users[0], flavorRef=asked, min_count=1, max_count=4)
    assert (few.status, counted(limited, project, resource)) == (202, [each * 3])


def test_a_pinned_processor_is_none_of_the_others(limited: Federation, identity: Identity) -> None:
    project = identity.project("pinned")
    user = limited.user("u", project)
    identity.register("servers", -1)
    identity.register("class:VCPU", 1)
    pinned = flavor(limited, {"hw:cpu_policy": "dedicated"}, vcpus=4)
    assert [limited.post_server(user, flavorRef=each).status for each in (pinned, "1", "1")] == [202, 202, 403]
    absolute = user.get("/limits").json["limits"]["absolute"]
    assert (absolute["totalCoresUsed"], absolute["maxTotalCores"], absolute["totalRAMUsed"]) == (1, 1, 128)
    detail = limited.admin.get(f"/os-quota-sets/{project}/detail").json["quota_set"]
    assert (detail["cores"]["in_use"], detail["instances"]["in_use"]) == (1, 2)


def test_a_root_disk_that_is_a_volume_counts_for_no_disk_of_a_host(limited: Federation, identity: Identity) -> None:
    user = limited.user("u", identity.project("volumes"))
    identity.register("servers", -1)
    identity.register("class:DISK_GB", 2)
    root = {"source_type": "image", "destination_type": "volume", "uuid": limited.image_id, "boot_index": 0,
            "volume_size": 1, "delete_on_termination": True}  # fmt: skip
    wide = flavor(limited, disk=50, **{"OS-FLV-EXT-DATA:ephemeral": 1})
    on_volume = {"flavorRef": wide, "imageRef": None, "block_device_mapping_v2": [root]}
    statuses = [limited.post_server(user, **on_volume).status for _ in range(3)]
    assert (statuses, limited.post_server(user, flavorRef=wide).status) == ([202, 202, 403], 403)


@pytest.mark.parametrize("end", ["confirmResize", "revertResize", "delete"])
def test_a_resize_counts_for_the_more_of_both_until_it_ends(limited: Federation, identity: Identity, end: str) -> None:
    project = identity.project("grows")
    user = limited.user("u", project)
    identity.register("servers", -1)
    identity.register("class:DISK_GB", 6)
    identity.register("class:MEMORY_MB", 64)
    small, other = flavor(limited, disk=2), flavor(limited, disk=4, ram=32)
    uuid = limited.boot(user, flavorRef=small)
    too_much = [flavor(limited, disk=7), flavor(limited, disk=2, ram=65)]
    resizes = [limited.act(uuid, "resize", {"flavorRef": each}, user).status for each in too_much]
    assert (resizes, counted(limited, project, "DISK_GB", "MEMORY_MB")) == ([403, 403], [2, 64])
    forget_counts(limited)
    assert limited.act(uuid, "resize", {"flavorRef": other}, user).status == 202
    assert counted(limited, project, "DISK_GB", "MEMORY_MB") == [4, 64]
    limited.until(lambda: limited.show(uuid, user)["status"] == "VERIFY_RESIZE")
    if end == "delete":
        assert user.delete(f"/servers/{uuid}").status == 204
    else:
        assert limited.act(uuid, end, None, user).status in (202, 204)
    wanted = {"confirmResize": [4, 32], "revertResize": [2, 64], "delete": [0, 0]}[end]
    limited.until(lambda: counted(limited, project, "DISK_GB", "MEMORY_MB") == wanted)


def test_a_server_without_a_host_goes_on_counting_and_always_comes_back(
    limited: Federation, identity: Identity
) -> None:
    project = identity.project("sleeps")
    user = limited.user("u", project)
    identity.register("servers", -1)
    identity.register("class:DISK_GB", 1)
    uuid = limited.boot(user)
    assert limited.act(uuid, "shelve", None, user).status == 202
    limited.until(lambda: limited.show(uuid, user)["status"] == "SHELVED_OFFLOADED")
    assert (counted(limited, project, "DISK_GB"), limited.post_server(user).status) == ([1], 403)
    identity.limit(project, "class:DISK_GB", 0)
    assert limited.act(uuid, "unshelve", None, user).status == 202
    limited.until(lambda: limited.show(uuid, user)["status"] == "ACTIVE")
    assert counted(limited, project, "DISK_GB") == [1]


def test_servers_from_before_anybody_limited_classes_count_too(limited: Federation, identity: Identity) -> None:
    project = identity.project("early")
    user = limited.user("u", project)
    identity.register("servers", -1)
    early = [limited.boot(user) for _ in range(2)]
    forget_counts(limited)
    identity.register("class:DISK_GB", 3)
    assert user.get("/limits").json["limits"]["absolute"]["totalRAMUsed"] == 128
    assert [limited.post_server(user).status for _ in range(2)] == [202, 403]
    assert user.delete(f"/servers/{early[0]}").status == 204
    assert counted(limited, project, "DISK_GB") == [2]


def forget_counts(cloud: Federation) -> None:
    """As if nobody had limited classes before."""
    rows = quota_usages.c.resource.startswith(class_usage.PREFIX)
    with cloud.db.begin() as tx:
        assert tx.execute(delete(quota_usages).where(rows)).rowcount


def test_quota_sets_show_them_and_change_nothing(limited: Federation, identity: Identity) -> None:
    project = identity.project("shown")
    identity.register("servers", 7)
    identity.register("server_key_pairs", 0)
    identity.limit(project, "servers", 9)
    shown = limited.admin.get(f"/os-quota-sets/{project}").json["quota_set"]
    assert (shown["instances"], shown["key_pairs"], shown["cores"]) == (9, 0, -1)
    assert limited.admin.get(f"/os-quota-sets/{project}/defaults").json["quota_set"]["instances"] == 7
    assert limited.admin.get("/os-quota-class-sets/default").json["quota_class_set"]["instances"] == 7
    answer = limited.admin.put(f"/os-quota-sets/{project}", {"quota_set": {"instances": 20}})
    assert (answer.status, answer.json["quota_set"]["instances"]) == (200, 9)
    assert limited.admin.delete(f"/os-quota-sets/{project}").status == 202
    assert limited.admin.get(f"/os-quota-sets/{project}").json["quota_set"]["instances"] == 9
    answer = limited.admin.put("/os-quota-class-sets/default", {"quota_class_set": {"instances": 1}})
    assert (answer.status, answer.json["quota_class_set"]["instances"]) == (200, 7)
    assert limited.admin.put(f"/os-quota-sets/{project}", {"quota_set": {"planes": 1}}).status == 400
    assert limited.user("u", project).post("/os-keypairs", {"keypair": {"name": "k"}}).status == 403


def test_what_has_to_be_registered_and_is_not_nobody_may_have(limited: Federation) -> None:
    assert limited.post_server().status == 403


def test_the_last_limits_hold_while_the_identity_service_is_silent(
    identity: Identity, companions: Companions, clock: ManualClock
) -> None:
    identity.register("servers", 5)
    source, ctx = identity.source(), internal(clock)
    assert source.of_project(ctx, "p") == {"servers": 5}
    companions.identity.drain(0)
    clock.advance(VALID_SECONDS)
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
