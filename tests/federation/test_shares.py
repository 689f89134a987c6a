"""Shares of servers: attached and detached while they are off, found by their guests, cleaned up with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import requests

from api_cell.superconductor.host_moves import HostMover
from tests.edge.client import Client, Reply
from tests.federation.cloud import Federation

VERSION = "2.97"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    made = Federation(tmp_path_factory.mktemp("shares"))
    yield made
    made.close()


class Sharing:
    """The shared file system service, as a user of the project sees it."""

    def __init__(self, cloud: Federation, token: str = "demo:demo-project") -> None:
        self._url, self._headers = f"{cloud.share_service.url}/v2", {"X-Auth-Token": token}

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        reply = requests.request(method, self._url + path, json=body, headers=self._headers, timeout=10)
        reply.raise_for_status()
        return reply.json() if reply.content else None

    def share(self, **fields: Any) -> str:
        wanted = {"share_proto": "NFS", "size": 1, **fields}
        made: str = self.ask("POST", "/shares", {"share": wanted})["share"]["id"]
        return made

    def rules(self, share_id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("GET", f"/share-access-rules?share_id={share_id}")["access_list"]
        return found


@pytest.fixture(scope="module")
def sharing(cloud: Federation) -> Sharing:
    return Sharing(cloud)


@pytest.fixture(scope="module")
def demo(cloud: Federation) -> Client:
    return cloud.user("demo", "demo-project")


def off(cloud: Federation, by: Client, **fields: Any) -> str:
    uuid = cloud.boot(by, **fields)
    assert cloud.act(uuid, "os-stop", by=by).status == 202
    assert cloud.settled(uuid, by)["status"] == "SHUTOFF"
    return uuid


def attach(by: Client, uuid: str, share_id: str, **fields: Any) -> Reply:
    return by.post(f"/servers/{uuid}/shares", {"share": {"share_id": share_id, **fields}}, version=VERSION)


def status(by: Client, uuid: str, share_id: str) -> str | None:
    reply = by.get(f"/servers/{uuid}/shares/{share_id}", version=VERSION)
    return str(reply.json["share"]["status"]) if reply.status == 200 else None


def attached(cloud: Federation, by: Client, uuid: str, share_id: str, **fields: Any) -> None:
    reply = attach(by, uuid, share_id, **fields)
    assert (reply.status, reply.json["share"]["status"]) == (201, "attaching")
    cloud.until(lambda: status(by, uuid, share_id) == "inactive")


def mounts(cloud: Federation, uuid: str) -> dict[str, str]:
    for fleet in cloud.fleets.values():
        for agent in fleet.agents.values():
            driver: Any = agent.driver
            if uuid in {guest.uuid for guest in driver.guests()}:
                found: dict[str, str] = driver.mounts(uuid)
                return found
    raise AssertionError("no host has the guest")


def test_a_guest_has_its_share_while_it_runs(cloud: Federation, demo: Client, sharing: Sharing) -> None:
    share, uuid = sharing.share(), off(cloud, demo)
    attached(cloud, demo, uuid, share, tag="home")
    assert [(rule["state"], rule["access_level"]) for rule in sharing.rules(share)] == [("active", "rw")]
    assert mounts(cloud, uuid) == {}
    cloud.act(uuid, "os-start", by=demo)
    assert cloud.settled(uuid, demo)["status"] == "ACTIVE"
    seen = cloud.admin.get(f"/servers/{uuid}/shares", version=VERSION).json["shares"]
    (shown,) = seen
    assert (shown["share_id"], shown["tag"], shown["status"]) == (share, "home", "active")
    assert mounts(cloud, uuid) == {"home": shown["export_location"]}
    assert demo.get(f"/servers/{uuid}/shares", version=VERSION).json["shares"] == [
        {"share_id": share, "tag": "home", "status": "active"}
    ]
    cloud.act(uuid, "os-stop", by=demo)
    assert cloud.settled(uuid, demo)["status"] == "SHUTOFF"
    assert (mounts(cloud, uuid), status(demo, uuid, share)) == ({}, "inactive")
    assert demo.delete(f"/servers/{uuid}/shares/{share}", version=VERSION).status == 200
    cloud.until(lambda: status(demo, uuid, share) is None)
    assert sharing.rules(share) == []
    listed = demo.get(f"/servers/{uuid}/os-instance-actions", version=VERSION).json["instanceActions"]
    assert {"attach_share", "detach_share"} <= {one["action"] for one in listed}


def test_the_same_share_or_tag_twice_is_refused(cloud: Federation, demo: Client, sharing: Sharing) -> None:
    share, other, uuid = sharing.share(), sharing.share(), off(cloud, demo)
    attached(cloud, demo, uuid, share, tag="one")
    assert attach(demo, uuid, share).status == 409
    assert attach(demo, uuid, other, tag="one").status == 409
    attached(cloud, demo, uuid, other)
    assert demo.get(f"/servers/{uuid}/shares/{other}", version=VERSION).json["share"]["tag"] == other


def test_what_servers_with_shares_cannot_do(cloud: Federation, demo: Client, sharing: Sharing) -> None:
    share, uuid = sharing.share(), off(cloud, demo)
    attached(cloud, demo, uuid, share)
    for action, content in (("resize", {"flavorRef": "1"}), ("migrate", None), ("shelve", None)):
        assert cloud.act(uuid, action, content).status in (400, 409), action
    assert cloud.act(uuid, "migrate").status == 409
    cloud.act(uuid, "os-start", by=demo)
    cloud.settled(uuid, demo)
    assert cloud.act(uuid, "suspend").status == 409
    assert cloud.act(uuid, "os-migrateLive", {"host": None, "block_migration": "auto"}).status == 409
    assert attach(demo, uuid, sharing.share()).status == 409
    assert demo.delete(f"/servers/{uuid}/shares/{share}", version=VERSION).status == 409
    assert cloud.act(uuid, "reboot", {"type": "HARD"}, by=demo).status == 202
    cloud.settled(uuid, demo)
    assert list(mounts(cloud, uuid)) == [share]


def test_what_cannot_be_attached(cloud: Federation, demo: Client, sharing: Sharing) -> None:
    uuid = off(cloud, demo)
    assert attach(demo, uuid, str(uuid4())).status == 404
    assert attach(demo, uuid, Sharing(cloud, "eve:else").share()).status == 404
    assert attach(demo, uuid, sharing.share(share_proto="CIFS")).status == 409
    assert attach(demo, uuid, "no uuid").status == 400
    public = Sharing(cloud, "eve:else").share(is_public=True)
    attached(cloud, demo, uuid, public)
    assert demo.get(f"/servers/{uuid}/shares/{uuid4()}", version=VERSION).status == 404
    assert demo.get(f"/servers/{uuid}/shares", version="2.96").status == 404


def test_a_host_that_is_not_let_in(cloud: Federation, demo: Client, sharing: Sharing) -> None:
    share, uuid = sharing.share(metadata={"refuses_access": "yes"}), off(cloud, demo)
    reply = attach(demo, uuid, share)
    assert reply.status == 201
    cloud.until(lambda: status(demo, uuid, share) == "error")
    path = f"/servers/{uuid}/os-instance-actions"
    newest = cloud.admin.get(path, version=VERSION).json["instanceActions"][0]
    action = cloud.admin.get(f"{path}/{newest['request_id']}", version=VERSION).json["instanceAction"]
    (event,) = action["events"]
    assert (event["event"], event["result"]) == ("compute_attach_share", "Error")
    cloud.act(uuid, "os-start", by=demo)
    assert cloud.settled(uuid, demo)["status"] == "ACTIVE"
    assert mounts(cloud, uuid) == {}
    cloud.act(uuid, "os-stop", by=demo)
    cloud.settled(uuid, demo)
    assert demo.delete(f"/servers/{uuid}/shares/{share}", version=VERSION).status == 200
    cloud.until(lambda: status(demo, uuid, share) is None)
    assert sharing.rules(share) == []


def test_a_share_goes_with_the_last_server_of_a_host(cloud: Federation, demo: Client, sharing: Sharing) -> None:
    share = sharing.share()
    here = [off(cloud, cloud.admin, cell="cell1") for _ in range(3)]
    admin_rules = Sharing(cloud, "admin:admin-project").rules
    for uuid in here:
        attached(cloud, cloud.admin, uuid, share)
    assert len(admin_rules(share)) == 1
    cloud.admin.delete(f"/servers/{here[0]}/shares/{share}", version=VERSION)
    cloud.until(lambda: status(cloud.admin, here[0], share) is None)
    assert len(admin_rules(share)) == 1
    for uuid in here[1:]:
        assert cloud.admin.delete(f"/servers/{uuid}").status == 204
    cloud.until(lambda: all(cloud.gone(uuid) for uuid in here[1:]))
    assert admin_rules(share) == []


def test_what_a_user_has_allowed_stays(cloud: Federation, demo: Client, sharing: Sharing) -> None:
    share, uuid = sharing.share(), off(cloud, demo)
    rule = {"allow_access": {"access_type": "ip", "access_to": "192.0.2.1", "access_level": "ro"}}
    sharing.ask("POST", f"/shares/{share}/action", rule)
    attached(cloud, demo, uuid, share)
    hidden = sorted(one["access_to"] for one in sharing.rules(share))
    assert hidden == ["******", "192.0.2.1"]
    assert demo.delete(f"/servers/{uuid}").status == 204
    cloud.until(lambda: cloud.gone(uuid, demo))
    assert [one["access_to"] for one in sharing.rules(share)] == ["192.0.2.1"]


def test_shares_go_with_their_host_to_another_cell(cloud: Federation) -> None:
    uuid, own = off(cloud, cloud.admin, availability_zone="nova:cell1-host2"), cloud.share()
    attached(cloud, cloud.admin, uuid, own, tag="data")
    before = cloud.admin.get(f"/servers/{uuid}/shares", version=VERSION).json
    assert HostMover(cloud.cloud, "cell1-host2", wait_seconds=100).move(cloud.ids["cell2"])
    assert cloud.admin.get(f"/servers/{uuid}/shares", version=VERSION).json == before
    cloud.until(lambda: cloud.act(uuid, "os-start").status == 202)
    assert cloud.settled(uuid)["status"] == "ACTIVE"
    assert list(mounts(cloud, uuid)) == ["data"]
    cloud.act(uuid, "os-stop")
    cloud.settled(uuid)
    assert cloud.admin.delete(f"/servers/{uuid}/shares/{own}", version=VERSION).status == 200
    cloud.until(lambda: status(cloud.admin, uuid, own) is None)
    assert Sharing(cloud, "admin:admin-project").rules(own) == []
