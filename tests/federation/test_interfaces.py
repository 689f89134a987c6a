"""Interfaces of running servers, from the API down to the guests' cards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.edge.client import Reply
from tests.federation.cloud import Federation


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    made = Federation(tmp_path_factory.mktemp("cloud"), move_seconds=0, live_seconds=0)
    yield made
    made.close()


def attach(cloud: Federation, uuid: str, version: str = "2.96", **asked: Any) -> Reply:
    return cloud.admin.post(f"/servers/{uuid}/os-interface", {"interfaceAttachment": asked}, version=version)


def cards(cloud: Federation, uuid: str) -> list[str]:
    """The MAC addresses of the guest's cards."""
    for fleet in cloud.fleets.values():
        for agent in fleet.agents.values():
            for guest in agent.driver._state.guests():
                if guest.uuid == uuid:
                    return list(guest.macs)
    return []


def addresses(cloud: Federation, uuid: str) -> list[str]:
    return [each["addr"] for found in cloud.show(uuid)["addresses"].values() for each in found]


def listed(cloud: Federation, uuid: str, version: str = "2.96") -> list[dict[str, Any]]:
    answer = cloud.admin.get(f"/servers/{uuid}/os-interface", version=version)
    assert answer.status == 200, answer.raw
    found: list[dict[str, Any]] = answer.json["interfaceAttachments"]
    return found


def detached(cloud: Federation, uuid: str, port_id: str) -> None:
    assert cloud.admin.delete(f"/servers/{uuid}/os-interface/{port_id}").status == 202
    cloud.until(lambda: port_id not in [each["port_id"] for each in listed(cloud, uuid)] and not cloud.unfinished())


def test_a_port_is_made_plugged_shown_and_taken_away(cloud: Federation) -> None:
    uuid = cloud.boot()
    answer = attach(cloud, uuid, tag="web")
    assert answer.status == 200, answer.raw
    port = answer.json["interfaceAttachment"]
    assert (port["port_state"], port["tag"], cards(cloud, uuid)) == ("ACTIVE", "web", [port["mac_addr"]])
    assert addresses(cloud, uuid) == [port["fixed_ips"][0]["ip_address"]]
    assert listed(cloud, uuid) == [port]
    shown = cloud.admin.get(f"/servers/{uuid}/os-interface/{port['port_id']}", version="2.69")
    assert shown.json["interfaceAttachment"] == {name: value for name, value in port.items() if name != "tag"}

    detached(cloud, uuid, port["port_id"])
    assert (cards(cloud, uuid), addresses(cloud, uuid), listed(cloud, uuid)) == ([], [], [])
    assert port["port_id"] not in cloud.networks.ports
    actions = cloud.admin.get(f"/servers/{uuid}/os-instance-actions").json["instanceActions"]
    assert [each["action"] for each in actions] == ["detach_interface", "attach_interface", "create"]


def test_a_port_of_the_owner_stays_the_owners(cloud: Federation) -> None:
    uuid, given = cloud.boot(), cloud.networks.add_port()
    assert attach(cloud, uuid, port_id=given).json["interfaceAttachment"]["port_id"] == given
    assert attach(cloud, uuid, port_id=given).status == 409
    detached(cloud, uuid, given)
    assert cloud.networks.ports[given].instance_uuid is None

    assert attach(cloud, uuid, port_id=given).status == 200
    cloud.admin.delete(f"/servers/{uuid}")
    cloud.until(lambda: cloud.gone(uuid))
    assert cloud.networks.ports[given].instance_uuid is None


def test_a_port_of_another_project_that_names_the_server_is_not_its_port(cloud: Federation) -> None:
    """Any member who knows a server's uuid can write it into a port of a network of the member's own."""
    uuid = cloud.boot()
    own = attach(cloud, uuid).json["interfaceAttachment"]
    theirs = cloud.networks.ports[cloud.networks.add_port("another-project", uuid)]

    assert listed(cloud, uuid) == [own]
    assert cloud.admin.get(f"/servers/{uuid}/os-interface/{theirs.vif.port_id}").status == 404
    assert cloud.act(uuid, "os-migrateLive", {"host": None, "block_migration": "auto"}).status == 202
    cloud.settled(uuid)
    assert addresses(cloud, uuid) == [own["fixed_ips"][0]["ip_address"]]
    assert theirs.host is None
    cloud.admin.delete(f"/servers/{uuid}")
    cloud.until(lambda: cloud.gone(uuid))
    assert theirs.instance_uuid == uuid


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"net_id": str(uuid4()), "port_id": str(uuid4())}, 400),
        ({"fixed_ips": [{"ip_address": "10.0.0.9"}]}, 400),
        ({"net_id": "nonsense"}, 400),
        ({"net_id": str(uuid4())}, 404),
        ({"port_id": str(uuid4())}, 404),
    ],
)
def test_what_cannot_be_attached_leaves_nothing(cloud: Federation, asked: dict[str, Any], status: int) -> None:
    uuid, ports = cloud.boot(), dict(cloud.networks.ports)
    answer = attach(cloud, uuid, **asked)
    assert answer.status == status, answer.raw
    cloud.until(lambda: not cloud.unfinished())
    assert (cards(cloud, uuid), cloud.networks.ports, cloud.show(uuid)["status"]) == ([], ports, "ACTIVE")


def test_a_card_that_cannot_be_plugged_leaves_no_port(cloud: Federation) -> None:
    uuid, ports = cloud.boot(cell="cell1"), dict(cloud.networks.ports)
    faults: Path = cloud.directory / "cell1-host1" / "faults.json"
    faults.write_text(json.dumps({f"attach_interface:{uuid}": {"error": "DriverError"}}))
    try:
        assert attach(cloud, uuid).status == 500
    finally:
        faults.unlink()
    assert (cards(cloud, uuid), cloud.networks.ports, addresses(cloud, uuid)) == ([], ports, [])
    assert cloud.show(uuid)["status"] == "ACTIVE"


def test_only_what_a_state_allows(cloud: Federation) -> None:
    uuid = cloud.boot()
    assert cloud.admin.get(f"/servers/{uuid}/os-interface/{uuid4()}").status == 404
    assert cloud.admin.delete(f"/servers/{uuid}/os-interface/{uuid4()}").status == 404
    cloud.act(uuid, "suspend")
    cloud.settled(uuid)
    assert attach(cloud, uuid).status == 409
    stranger = cloud.user("stranger", "elsewhere")
    assert stranger.get(f"/servers/{uuid}/os-interface").status == 404
