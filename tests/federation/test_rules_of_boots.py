"""Policy rules that decide by what a server is made of: external networks, flavors without a disk size, volumes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from api_cell.app import ApiServer, make_compute_app
from api_cell.config import PolicySection
from cell_service.model.instance import Flavor
from mapping_db import flavors
from tests.edge.client import Client, Reply
from tests.federation.cloud import Federation

ZERO = "zero-disk"


@pytest.fixture(scope="module")
def made(small_shared: Federation) -> tuple[Federation, str]:
    """The cloud with a flavor whose root disk has no size, and an external network. The id of the network."""
    now, records = small_shared.clock.now(), small_shared.networks.records
    small_shared.db.run(lambda tx: flavors.insert_flavor(tx, Flavor(ZERO, ZERO, 1, 64, 0), now))
    outside = records.add("networks", name="public", project_id="x", shared=False, **{"router:external": True})
    return small_shared, outside


@pytest.fixture
def cloud(small: Federation, made: tuple[Federation, str]) -> Federation:
    return small


@pytest.fixture
def member(cloud: Federation) -> Client:
    return cloud.user("demo", "demo-project")


def ruled(cloud: Federation, directory: Path, rule: str, check: str) -> Iterator[Client]:
    """The member at an API of the same cloud with another check for one rule."""
    file = directory / "policy.yaml"
    file.write_text(f'"{rule}": "{check}"\n', encoding="utf-8")
    settings = replace(cloud.settings, policy=PolicySection(policy_file=str(file)))
    server = ApiServer(make_compute_app(cloud.cloud, cloud.services, settings))
    server.start()
    client = Client(server.port, token="demo:demo-project")
    yield client
    client.close()
    server.drain(0)


@pytest.fixture
def trusted(cloud: Federation, tmp_path: Path) -> Iterator[Client]:
    """The member where members may boot zero-disk flavors from images."""
    yield from ruled(cloud, tmp_path, "os_compute_api:servers:create:zero_disk_flavor", "rule:project_member_or_admin")


@pytest.fixture
def restricted(cloud: Federation, tmp_path: Path) -> Iterator[Client]:
    """The member where nobody may make images of volume-backed servers."""
    yield from ruled(cloud, tmp_path, "os_compute_api:servers:create_image:allow_volume_backed", "!")


def on_volume(cloud: Federation) -> dict[str, Any]:
    root = {"source_type": "image", "destination_type": "volume", "uuid": cloud.image_id, "boot_index": 0,
            "volume_size": 1, "delete_on_termination": True}  # fmt: skip
    return {"imageRef": None, "block_device_mapping_v2": [root]}


def message(answer: Reply) -> str:
    assert answer.status == 403, answer.raw
    return str(answer.json["forbidden"]["message"])


def test_a_flavor_without_a_disk_size_needs_a_volume(cloud: Federation, member: Client) -> None:
    refused = cloud.post_server(member, flavorRef=ZERO)
    assert message(refused) == "Only volume-backed servers are allowed for flavors with zero disk."
    uuid = cloud.boot(member, flavorRef=ZERO, **on_volume(cloud))
    assert cloud.show(uuid)["status"] == "ACTIVE"


def test_those_whom_the_rule_allows_boot_it_from_an_image_and_rebuild_it(
    cloud: Federation, member: Client, trusted: Client
) -> None:
    assert cloud.show(cloud.boot(flavorRef=ZERO))["status"] == "ACTIVE"
    uuid = cloud.boot(trusted, flavorRef=ZERO)
    assert "zero disk" in message(cloud.act(uuid, "rebuild", {"imageRef": cloud.image_id}, by=member))
    assert cloud.act(uuid, "rebuild", {"imageRef": cloud.image_id}, by=trusted).status == 202
    assert cloud.settled(uuid)["status"] == "ACTIVE"


def test_images_of_volume_backed_servers_have_a_rule_of_their_own(
    cloud: Federation, member: Client, restricted: Client
) -> None:
    local, backed = cloud.boot(member), cloud.boot(member, **on_volume(cloud))
    refused = cloud.act(backed, "createImage", {"name": "i"}, by=restricted)
    assert "create_image:allow_volume_backed" in message(refused)
    assert cloud.act(local, "createImage", {"name": "i"}, by=restricted).status == 202
    assert cloud.act(backed, "createImage", {"name": "i"}, by=member).status == 202
    cloud.settled(local)
    cloud.settled(backed)


def test_members_connect_nothing_to_an_external_network(
    cloud: Federation, member: Client, made: tuple[Federation, str]
) -> None:
    outside = made[1]
    assert "external network" in message(cloud.post_server(member, networks=[{"uuid": outside}]))
    uuid = cloud.boot(member)
    body = {"interfaceAttachment": {"net_id": outside}}
    assert "external network" in message(member.post(f"/servers/{uuid}/os-interface", body, version="2.96"))
    assert cloud.post_server(networks=[{"uuid": outside}]).status == 202
