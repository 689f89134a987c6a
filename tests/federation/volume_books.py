"""Servers whose disks are volumes, and what must hold of those wherever the servers go."""

from __future__ import annotations

from typing import Any

import requests

from cell_service.context import Deadline
from cell_service.db import instances
from tests.federation.cloud import Federation
from tests.federation.test_volumes import attach, booted, content, ctx, on_hypervisors, status, volume


def on_volumes(cloud: Federation) -> str:
    """A server of the first cell on a root volume, with another volume beside it."""
    root = {"source_type": "image", "destination_type": "volume", "uuid": cloud.image_id, "boot_index": 0,
            "volume_size": 1, "delete_on_termination": True}  # fmt: skip
    uuid, data = booted(cloud, root, cell="cell1"), volume(cloud)
    assert attach(cloud, uuid, data).status == 200
    cloud.until(lambda: status(cloud, data) == "in-use")
    return uuid


def devices(cloud: Federation, uuid: str) -> tuple[Any, ...]:
    """The server's volumes as the row says that is the server."""
    cell_id = cloud.cloud.locator.find(uuid, fresh=True).cell_id
    assert cell_id is not None
    with cloud.cells.open(cell_id).db.connect(Deadline.after(10)) as tx:
        return instances.get(tx, uuid).block_devices


def attachments(cloud: Federation, uuid: str) -> list[dict[str, Any]]:
    """All that the block storage service has of the server's, reserved ones too."""
    found = requests.get(
        f"{cloud.storage.url}/v3/attachments/detail", params={"all_tenants": "1", "instance_id": uuid},
        headers={"X-Auth-Token": "admin:admin"}, timeout=10,
    )  # fmt: skip
    listed: list[dict[str, Any]] = found.json()["attachments"]
    return listed


def check_volumes(cloud: Federation, uuid: str, host: str) -> None:
    """Each of the server's volumes is attached once, from that host, and hypervisor and row say the same."""
    held = devices(cloud, uuid)
    assert {one["id"]: one["status"] for one in attachments(cloud, uuid)} == {
        device.attachment_id: "attached" for device in held
    }
    for device in held:
        (link,) = cloud.volumes.get(ctx(), device.volume_id).attachments
        assert (link.host, link.server_id, link.attachment_id) == (host, uuid, device.attachment_id)
        assert device.connection_info["attachment_id"] == device.attachment_id
    assert on_hypervisors(cloud, uuid) == {host: sorted(device.volume_id for device in held)}
    assert content(cloud, next(device.volume_id for device in held if device.is_root)) == b"raw image"
    assert cloud.allocations()[uuid].get("DISK_GB", 0) == 0


def check_reserved(cloud: Federation, uuid: str) -> None:
    """The server has no host, and its volumes are its own."""
    held = devices(cloud, uuid)
    assert {one["id"]: one["status"] for one in attachments(cloud, uuid)} == {
        device.attachment_id: "reserved" for device in held
    }
    assert [status(cloud, device.volume_id) for device in held] == ["reserved"] * len(held)
