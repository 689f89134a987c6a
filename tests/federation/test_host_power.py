"""Hosts that are switched off and on, and hosts in maintenance: what the API tells, and where servers are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.federation.cloud import Federation
from tests.federation.test_moves import HOST, homes

AT = "2.42"
FIRST, SECOND = "cell1-host1", "cell1-host2"


@pytest.fixture
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    made = Federation(tmp_path_factory.mktemp("power"), cells=1, move_seconds=0, live_seconds=0, host_boot_seconds=0)
    yield made
    made.close()


def service(cloud: Federation, host: str) -> dict[str, Any]:
    listed = cloud.admin.get(f"/os-services?host={host}", version="2.53").json["services"]
    found: dict[str, Any] = listed[0]
    return found


def power(cloud: Federation, host: str, action: str) -> None:
    answer = cloud.admin.get(f"/os-hosts/{host}/{action}", version=AT)
    assert (answer.status, answer.json) == (200, {"host": host, "power_action": action}), answer.raw


def started(cloud: Federation, host: str) -> None:
    """Switch it on, and wait until it is."""
    power(cloud, host, "startup")
    driver: Any = cloud.fleets["cell1"].agents[host].driver
    cloud.until(driver.host_is_on)


def maintenance(cloud: Federation, host: str, word: str, **more: str) -> Any:
    answer = cloud.admin.put(f"/os-hosts/{host}", {"maintenance_mode": word, **more}, version=AT)
    assert answer.status == 200, answer.raw
    return answer.json


def test_a_host_that_was_shut_down_is_down_until_it_starts(cloud: Federation) -> None:
    uuid = cloud.boot(availability_zone=f"nova:{FIRST}")
    power(cloud, FIRST, "shutdown")
    power(cloud, FIRST, "shutdown")
    assert (service(cloud, FIRST)["state"], service(cloud, FIRST)["forced_down"]) == ("down", True)
    assert cloud.admin.get(f"/os-hosts/{FIRST}/reboot", version=AT).status == 400
    other = cloud.boot()
    assert cloud.show(other)[HOST] == SECOND
    assert cloud.act(uuid, "os-stop").status == 202

    started(cloud, FIRST)
    assert cloud.settled(uuid)["status"] == "SHUTOFF"
    cloud.until(lambda: service(cloud, FIRST)["state"] == "up")
    assert not service(cloud, FIRST)["forced_down"]
    assert cloud.act(uuid, "os-start").status == 202
    assert cloud.settled(uuid)["status"] == "ACTIVE"
    assert homes(cloud, uuid) == [FIRST]


def test_servers_of_a_host_that_was_shut_down_are_evacuated_at_once(cloud: Federation) -> None:
    uuid = cloud.boot(availability_zone=f"nova:{FIRST}")
    power(cloud, FIRST, "shutdown")
    assert cloud.act(uuid, "evacuate", {}).status == 200
    assert cloud.settled(uuid)[HOST] == SECOND
    started(cloud, FIRST)
    cloud.until(lambda: homes(cloud, uuid) == [SECOND])


def test_a_host_that_reboots_is_back_with_its_servers_off(cloud: Federation) -> None:
    uuid = cloud.boot(availability_zone=f"nova:{FIRST}")
    power(cloud, FIRST, "reboot")
    cloud.until(lambda: cloud.show(uuid)["status"] == "SHUTOFF")
    assert service(cloud, FIRST)["state"] == "up"


def test_servers_leave_a_host_in_maintenance_and_none_go_there(cloud: Federation) -> None:
    runs, stopped = (cloud.boot(availability_zone=f"nova:{SECOND}") for _ in range(2))
    assert cloud.act(stopped, "os-stop").status == 202
    cloud.settled(stopped)

    assert maintenance(cloud, SECOND, "enable") == {"host": SECOND, "maintenance_mode": "on_maintenance"}
    assert maintenance(cloud, SECOND, "Enable") == {"host": SECOND, "maintenance_mode": "on_maintenance"}
    assert service(cloud, SECOND)["status"] == "disabled"
    moved = cloud.settled(runs)
    assert (moved[HOST], moved["status"]) == (FIRST, "ACTIVE")
    assert cloud.show(stopped)[HOST] == SECOND
    assert cloud.show(cloud.boot())[HOST] == FIRST
    forced = cloud.act(runs, "os-migrateLive", {"host": SECOND, "block_migration": "auto"})
    assert forced.status == 202
    assert cloud.settled(runs)[HOST] == FIRST

    assert maintenance(cloud, SECOND, "disable") == {"host": SECOND, "maintenance_mode": "off_maintenance"}
    assert service(cloud, SECOND)["status"] == "enabled"
    back = cloud.boot(availability_zone=f"nova:{SECOND}")
    assert cloud.show(back)[HOST] == SECOND


def test_a_host_that_was_disabled_before_stays_so_after_maintenance(cloud: Federation) -> None:
    told = maintenance(cloud, FIRST, "enable", status="disable")
    assert told == {"host": FIRST, "maintenance_mode": "on_maintenance", "status": "disabled"}
    maintenance(cloud, FIRST, "disable")
    assert service(cloud, FIRST)["status"] == "disabled"
    told = maintenance(cloud, FIRST, "disable", status="enable")
    assert told == {"host": FIRST, "maintenance_mode": "off_maintenance", "status": "enabled"}


def test_a_host_whose_agent_is_silent_is_not_switched(tmp_path: Path) -> None:
    cloud = Federation(tmp_path, cells=1, hosts=1)
    cloud.fleets["cell1"].stop()
    answer = cloud.admin.get(f"/os-hosts/{FIRST}/shutdown", version=AT)
    assert (answer.status, "unavailable" in answer.json["badRequest"]["message"]) == (400, True)
    assert not service(cloud, FIRST)["forced_down"]
    cloud.close()
