"""Servers whose images must be signed, and whose disks must be encrypted: what is not possible is not done in part."""

from __future__ import annotations

from typing import Any

import pytest

from tests.federation.cloud import Federation

CERTIFICATE = "b9b4f4b4-0000-4000-8000-00000000000c"


@pytest.fixture
def cloud(small: Federation) -> Federation:
    return small


def fault(cloud: Federation, uuid: str) -> str:
    shown = cloud.show(uuid)
    assert shown["status"] == "ERROR"
    assert uuid not in {each for guests in cloud.guests().values() for each in guests}
    return str(shown["fault"]["message"])


def test_a_server_from_an_image_without_a_signature_fails_where_one_is_requested(cloud: Federation) -> None:
    uuid = cloud.boot(trusted_image_certificates=[CERTIFICATE])
    assert "it is not signed" in fault(cloud, uuid)
    assert cloud.show(uuid)["trusted_image_certificates"] == [CERTIFICATE]


def test_volume_backed_servers_are_not_promised_a_verified_image(cloud: Federation) -> None:
    root = {"source_type": "image", "destination_type": "volume", "uuid": cloud.image_id, "boot_index": 0,
            "volume_size": 1}  # fmt: skip
    fields: dict[str, Any] = {"imageRef": None, "block_device_mapping_v2": [root]}
    refused = cloud.post_server(**fields, trusted_image_certificates=[CERTIFICATE])
    assert refused.status == 400
    assert "booting from volume" in refused.fault[1]
    uuid = cloud.boot(**fields)
    body = {"imageRef": cloud.image_id, "trusted_image_certificates": [CERTIFICATE]}
    assert cloud.act(uuid, "rebuild", body).status == 400
    assert cloud.show(uuid)["status"] == "ACTIVE"


def test_no_host_takes_a_server_whose_disks_are_to_be_encrypted(cloud: Federation) -> None:
    flavor = {"id": "encrypted", "name": "encrypted", "vcpus": 1, "ram": 64, "disk": 1}
    cloud.admin.post("/flavors", {"flavor": flavor})
    specs = {"extra_specs": {"hw:ephemeral_encryption": "true"}}
    assert cloud.admin.post("/flavors/encrypted/os-extra_specs", specs).status == 200
    image = cloud.images.add(b"to be encrypted", properties={"hw_ephemeral_encryption": "true"})
    for fields in ({"flavorRef": "encrypted"}, {"imageRef": image}):
        assert "No valid host" in fault(cloud, cloud.boot(**fields))
