"""Volumes of servers that moved while an agent of the move is frozen: what leaves a server is free of each host."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults import bursts
from tests.faults.installation import Installation, Unmet

pytestmark = [pytest.mark.real, pytest.mark.faults, pytest.mark.timeout(900)]

ADMIN_HOST = "OS-EXT-SRV-ATTR:host"


def show(cloud: Installation, uuid: str) -> dict[str, Any]:
    server: dict[str, Any] = cloud.user.ask("GET", f"/servers/{uuid}").json()["server"]
    return server


def until_status(cloud: Installation, uuid: str, status: str) -> dict[str, Any]:
    """The server, once it has that status and no task."""

    def reached() -> dict[str, Any] | Unmet:
        server = show(cloud, uuid)
        at_rest = (server["status"], server.get("OS-EXT-STS:task_state", "unknown")) == (status, None)
        return server if at_rest else Unmet(server)

    found: dict[str, Any] = cloud.until(reached)
    return found


def act(cloud: Installation, uuid: str, **action: Any) -> None:
    answer = cloud.user.ask("POST", f"/servers/{uuid}/action", action)
    assert answer.ok, answer.text


def volume_status(cloud: Installation, volume: str) -> str:
    path = f"/{cloud.user.project_id}/volumes/{volume}"
    return str(cloud.user.ask("GET", path, service="volume").json()["volume"]["status"])


def with_volume(cloud: Installation) -> tuple[str, str]:
    """A server and its volume."""
    uuid = cloud.user.post_server().json()["server"]["id"]
    made = cloud.user.ask("POST", f"/{cloud.user.project_id}/volumes", {"volume": {"size": 1}}, service="volume")
    volume = made.json()["volume"]["id"]
    until_status(cloud, uuid, "ACTIVE")
    cloud.until(lambda: (now := volume_status(cloud, volume)) == "available" or Unmet(now))
    path = f"/servers/{uuid}/os-volume_attachments"
    attached = cloud.user.ask("POST", path, {"volumeAttachment": {"volumeId": volume}})
    assert attached.ok, attached.text
    cloud.until(lambda: (now := volume_status(cloud, volume)) == "in-use" or Unmet(now))
    return uuid, volume


def resized(cloud: Installation, uuid: str) -> tuple[str, str]:
    """The hosts it was on and is on, in VERIFY_RESIZE."""
    source = show(cloud, uuid)[ADMIN_HOST]
    flavors = cloud.user.ask("GET", "/flavors").json()["flavors"]
    other = next(flavor["id"] for flavor in flavors if flavor["id"] != cloud.user.flavor)
    act(cloud, uuid, resize={"flavorRef": other})
    return source, until_status(cloud, uuid, "VERIFY_RESIZE")[ADMIN_HOST]


def detach(cloud: Installation, uuid: str, volume: str) -> int:
    return cloud.user.ask("DELETE", f"/servers/{uuid}/os-volume_attachments/{volume}").status_code


def until_detached(cloud: Installation, uuid: str) -> None:
    path = f"/servers/{uuid}/os-volume_attachments"
    cloud.until(lambda: not (left := cloud.user.ask("GET", path).json()["volumeAttachments"]) or Unmet(left))


def demand_free(cloud: Installation, volume: str) -> None:
    """Once all is quiet, no host has the volume."""
    bursts.settle(cloud)
    cloud.until(lambda: (now := volume_status(cloud, volume)) == "available" or Unmet(now))
    gone = cloud.user.ask("DELETE", f"/{cloud.user.project_id}/volumes/{volume}", service="volume")
    assert gone.ok, gone.text
    bursts.sweep(cloud)


def test_a_volume_detached_after_a_resize_is_free_of_a_source_that_is_frozen(cloud: Installation) -> None:
    uuid, volume = with_volume(cloud)
    source, target = resized(cloud, uuid)
    assert source != target
    with cloud.frozen("compute", host=source):
        act(cloud, uuid, confirmResize=None)
        until_status(cloud, uuid, "ACTIVE")
        assert detach(cloud, uuid, volume) == 202
        until_detached(cloud, uuid)
    demand_free(cloud, volume)


def test_a_volume_detached_after_a_revert_is_free_of_a_target_that_was_frozen(cloud: Installation) -> None:
    uuid, volume = with_volume(cloud)
    source, target = resized(cloud, uuid)
    with cloud.frozen("compute", host=target):
        act(cloud, uuid, revertResize=None)
        cloud.until(lambda: (now := show(cloud, uuid)["OS-EXT-STS:task_state"]) == "resize_reverting" or Unmet(now))
        assert detach(cloud, uuid, volume) == 409
    assert until_status(cloud, uuid, "ACTIVE")[ADMIN_HOST] == source
    assert detach(cloud, uuid, volume) == 202
    until_detached(cloud, uuid)
    demand_free(cloud, volume)


def test_a_volume_detached_after_a_live_migration_is_free_of_a_source_that_is_frozen(cloud: Installation) -> None:
    uuid, volume = with_volume(cloud)
    source = show(cloud, uuid)[ADMIN_HOST]
    act(cloud, uuid, **{"os-migrateLive": {"host": None, "block_migration": "auto"}})
    assert until_status(cloud, uuid, "ACTIVE")[ADMIN_HOST] != source
    with cloud.frozen("compute", host=source):
        assert detach(cloud, uuid, volume) == 202
        until_detached(cloud, uuid)
    demand_free(cloud, volume)
