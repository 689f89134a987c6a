"""Encrypted volumes: only hosts that can decrypt them get servers that have them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from cell_service.model.ability import Ability
from cell_service.model.host import NodeReport
from cell_service.model.volume_connection import of_any_host
from compute_host.config import HostSettings
from compute_host.virt.simulated import node
from tests.federation.cloud import Federation
from tests.federation.test_volumes import LATEST, attach, attached, ctx, status, volume
from tools.companions.store import open_store
from tools.companions.volume import store

HOSTS = ("cell1-host1", "cell2-host1")
DECRYPT = Ability.ENCRYPTED_VOLUMES.value
report = node.report


def encrypt(small: Federation, volume_id: str) -> None:
    """The block storage service says from now on that the volume is encrypted, as one with a key manager would."""
    db = open_store(small.directory / "volume", "volume", store.metadata)
    db.run(lambda tx: store.change(tx, store.get(tx, "volume", volume_id), {"encrypted": True}))
    db.dispose()


@contextlib.contextmanager
def without_decryption(small: Federation, *hosts: str) -> Iterator[None]:
    """Meanwhile these hosts report that they can't decrypt volumes."""

    def reported(settings: HostSettings, *more: Any) -> NodeReport:
        made = report(settings, *more)
        lacking = settings.host in hosts
        return replace(made, abilities=tuple(each for each in made.abilities or () if not lacking or each != DECRYPT))

    def lack() -> set[str]:
        return {each.host for each in small.superconductor.scheduled_hosts() if DECRYPT not in (each.abilities or ())}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(node, "report", reported)
        small.until(lambda: lack() == set(hosts))
        yield
    small.until(lambda: not lack())


def boot_body(small: Federation, device: dict[str, Any]) -> dict[str, Any]:
    """Of a server with a local root disk and that device."""
    root = {"uuid": small.image_id, "source_type": "image", "destination_type": "local", "boot_index": 0}
    device = {"destination_type": "volume", "boot_index": -1, **device}
    return {"name": "s", "imageRef": small.image_id, "flavorRef": "1", "networks": "none",
            "block_device_mapping_v2": [root, device]}  # fmt: skip


def test_an_encrypted_volume_is_refused_where_the_host_cannot_decrypt_it(small: Federation) -> None:
    uuid, secret = small.boot(), volume(small)
    encrypt(small, secret)
    with without_decryption(small, small.show(uuid)["OS-EXT-SRV-ATTR:host"]):
        answer = attach(small, uuid, secret)
        assert answer.status == 400, answer.raw
        assert f"Volume encryption is not supported for __DEFAULT__ volume {secret}" in answer.raw.decode()
        assert (status(small, secret), attached(small, uuid)) == ("available", [])
    assert attach(small, uuid, secret).status == 200
    small.until(lambda: status(small, secret) == "in-use")
    assert [each["volumeId"] for each in attached(small, uuid)] == [secret]


def test_an_encrypted_volume_is_not_swapped(small: Federation) -> None:
    uuid, held, secret = small.boot(), volume(small), volume(small)
    assert attach(small, uuid, held).status == 200
    small.until(lambda: status(small, held) == "in-use")
    encrypt(small, secret)
    swap = {"volumeAttachment": {"volumeId": secret}}
    answer = small.admin.put(f"/servers/{uuid}/os-volume_attachments/{held}", swap)
    assert (answer.status, "Volume encryption is not supported" in answer.raw.decode()) == (400, True)
    assert status(small, secret) == "available"
    assert [each["volumeId"] for each in attached(small, uuid)] == [held]


def test_servers_with_encrypted_volumes_get_hosts_that_decrypt_them(small: Federation) -> None:
    """New ones, and ones that come back: a shelved server's volume may be attached meanwhile."""
    secret, later = volume(small), volume(small)
    taken = small.volumes.take_snapshot(ctx(), secret, "s", None, force=False).id
    for each in (secret, later):
        encrypt(small, each)
    with without_decryption(small, HOSTS[1]):
        for device in ({"uuid": secret, "source_type": "volume"}, {"uuid": taken, "source_type": "snapshot"}):
            answer = small.admin.post("/servers", {"server": boot_body(small, device)}, version=LATEST)
            assert answer.status == 202, answer.raw
            uuid = answer.json["server"]["id"]
            small.until(lambda uuid=uuid: small.show(uuid)["status"] == "ACTIVE")
            assert small.show(uuid)["OS-EXT-SRV-ATTR:host"] == HOSTS[0]
        uuid = small.boot(cell="cell1")
        assert small.admin.post(f"/servers/{uuid}/action", {"shelve": None}).status == 202
        small.until(lambda: small.show(uuid)["status"] == "SHELVED_OFFLOADED")
        assert attach(small, uuid, later).status == 200
        assert small.admin.post(f"/servers/{uuid}/action", {"unshelve": None}).status == 202
        small.until(lambda: small.show(uuid)["status"] == "ACTIVE")
        assert small.show(uuid)["OS-EXT-SRV-ATTR:host"] == HOSTS[0]
    with without_decryption(small, *HOSTS):
        assert small.act(uuid, "migrate").status == 202
        small.until(lambda: small.show(uuid)["OS-EXT-STS:task_state"] is None)
        assert small.show(uuid)["OS-EXT-SRV-ATTR:host"] == HOSTS[0]


def test_a_host_that_looks_where_volumes_are_still_knows_how_they_are_encrypted() -> None:
    said = {"encryption": {"encryption_key_id": "k"}, "multiattach": True}
    assert of_any_host({**said, "driver_volume_type": "nbd", "socket": "/s", "encrypted": True}) == said
