"""What other services tell of servers, and what is seen without being told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from cell_service.model.instance import FixedIp
from tests.edge.client import Reply
from tests.federation.cloud import Federation
from tests.federation.test_interfaces import addresses, attach, cards


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    made = Federation(tmp_path_factory.mktemp("cloud"), move_seconds=0, live_seconds=0)
    yield made
    made.close()


def tell(cloud: Federation, *events: dict[str, Any], version: str = "2.96") -> Reply:
    return cloud.admin.post("/os-server-external-events", {"events": list(events)}, version=version)


def plugged(cloud: Federation, **fields: Any) -> tuple[str, str]:
    uuid = cloud.boot(**fields)
    answer = attach(cloud, uuid)
    assert answer.status == 200, answer.raw
    return uuid, answer.json["interfaceAttachment"]["port_id"]


def float_to(cloud: Federation, port_id: str, address: str) -> None:
    """Somebody gives the port a floating address, behind our back."""
    port = cloud.networks.ports[port_id]
    fixed = port.vif.fixed_ips[0]
    port.vif = replace(port.vif, fixed_ips=(FixedIp(fixed.address, 4, fixed.subnet_id, (address,)),))


def test_changed_networks_are_seen_in_every_cell_by_one_request(cloud: Federation) -> None:
    servers = [plugged(cloud, cell="cell1"), plugged(cloud, cell="cell2")]
    for number, (_uuid, port_id) in enumerate(servers):
        float_to(cloud, port_id, f"192.0.2.{number + 1}")
    answer = tell(cloud, *({"name": "network-changed", "server_uuid": uuid, "tag": port} for uuid, port in servers))
    assert (answer.status, [event["code"] for event in answer.json["events"]]) == (200, [200, 200])
    for number, (uuid, _port_id) in enumerate(servers):
        cloud.until(lambda uuid=uuid, number=number: f"192.0.2.{number + 1}" in addresses(cloud, uuid))


def test_each_event_has_its_own_answer(cloud: Federation) -> None:
    uuid, nobody = cloud.boot(), str(uuid4())
    answer = tell(
        cloud,
        {"name": "network-changed", "server_uuid": uuid},
        {"name": "network-vif-plugged", "server_uuid": nobody, "tag": "p", "status": "completed"},
        {"name": "power-update", "server_uuid": uuid, "tag": "SIDEWAYS"},
    )
    assert answer.status == 207
    assert answer.json["events"] == [
        {"name": "network-changed", "server_uuid": uuid, "code": 200, "status": "completed"},
        {"name": "network-vif-plugged", "server_uuid": nobody, "tag": "p", "code": 404, "status": "failed"},
        {"name": "power-update", "server_uuid": uuid, "tag": "SIDEWAYS", "code": 400, "status": "failed"},
    ]
    assert tell(cloud, {"name": "network-changed", "server_uuid": nobody}).status == 207
    assert tell(cloud, {"name": "volume-extended", "server_uuid": uuid}, version="2.50").status == 400
    assert tell(cloud).status == 400


def test_a_port_that_is_deleted_leaves_the_guest(cloud: Federation) -> None:
    uuid, port_id = plugged(cloud)
    del cloud.networks.ports[port_id]
    event = {"name": "network-vif-deleted", "server_uuid": uuid, "tag": port_id}
    assert tell(cloud, event, event).status == 200
    cloud.until(lambda: not cards(cloud, uuid) and not addresses(cloud, uuid) and not cloud.unfinished())


def test_a_machine_that_was_turned_off_is_stopped_and_stays_so(cloud: Federation) -> None:
    uuid = cloud.boot()
    for tag, status in (("POWER_OFF", "SHUTOFF"), ("POWER_ON", "ACTIVE")):
        assert tell(cloud, {"name": "power-update", "server_uuid": uuid, "tag": tag}).status == 200
        cloud.until(lambda status=status: cloud.show(uuid)["status"] == status)


def test_what_nobody_told_is_seen_at_the_next_look(cloud: Federation) -> None:
    uuid, port_id = plugged(cloud, cell="cell1")
    float_to(cloud, port_id, "192.0.2.77")
    cloud.conductors["cell1"].duties.heal_network_info()
    assert "192.0.2.77" in addresses(cloud, uuid)
    kept, cloud.networks.ports = cloud.networks.ports, {}
    cloud.conductors["cell1"].duties.heal_network_info()
    cloud.networks.ports = kept
    assert "192.0.2.77" in addresses(cloud, uuid)
