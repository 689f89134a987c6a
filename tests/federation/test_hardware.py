"""Hardware that flavors and images demand, from the wire to the choice of a host."""

from __future__ import annotations

from uuid import uuid4

import pytest

from tests.federation.cloud import Federation

UEFI = {"hw_firmware_type": "uefi", "hw_machine_type": "q35"}


def flavor(cloud: Federation, specs: dict[str, str]) -> str:
    made = cloud.admin.post("/flavors", {"flavor": {"name": str(uuid4()), "vcpus": 1, "ram": 64, "disk": 1}})
    flavor_id: str = made.json["flavor"]["id"]
    if specs:
        body = {"extra_specs": specs}
        answer = cloud.admin.post(f"/flavors/{flavor_id}/os-extra_specs", body, version="2.86")
        assert answer.status == 200, answer.raw
    return flavor_id


def image(cloud: Federation, **properties: str) -> str:
    return cloud.images.add(b"content", properties=properties)


@pytest.mark.parametrize(
    ("specs", "properties"),
    [
        ({"hw:tpm_version": "2.0", "hw:tpm_model": "tpm-crb"}, {}),
        ({"os:secure_boot": "required"}, UEFI),
        ({"hw:watchdog_action": "reset", "quota:cpu_quota": "20000", "quota:disk_read_iops_sec": "5",
          "quota:vif_inbound_average": "100"}, {"hw_video_model": "virtio", "hw_disk_bus": "scsi"}),
    ],
)  # fmt: skip
def test_a_simulated_host_accepts_the_hardware_that_it_reports(
    small: Federation, specs: dict[str, str], properties: dict[str, str]
) -> None:
    uuid = small.boot(flavorRef=flavor(small, specs), imageRef=image(small, **properties))
    assert small.show(uuid)["status"] == "ACTIVE"


@pytest.mark.parametrize("zone", [None, "nova:cell1-host1"])
@pytest.mark.parametrize(
    ("specs", "properties"),
    [
        ({"hw:mem_encryption": "true"}, UEFI),
        ({"hw:numa_nodes": "2"}, {}),
        ({"hw:pmem": "6GB"}, {}),
        ({"pci_passthrough:alias": "gpu:1"}, {}),
        ({"hw:mem_page_size": "large", "hw:locked_memory": "true"}, {}),
        ({}, {"hw_disk_bus": "xen"}),
    ],
)
def test_hardware_that_no_host_has_finds_none_not_even_a_named_one(
    small: Federation, specs: dict[str, str], properties: dict[str, str], zone: str | None
) -> None:
    fields = {} if zone is None else {"availability_zone": zone}
    uuid = small.boot(flavorRef=flavor(small, specs), imageRef=image(small, **properties), **fields)
    shown = small.show(uuid)
    assert (shown["status"], shown["fault"]["message"]) == ("ERROR", "No valid host was found.")
    assert uuid not in small.allocations()


def test_contradictions_are_refused_at_once(small: Federation) -> None:
    wanted = flavor(small, {"hw:tpm_version": "1.2", "hw:serial_port_count": "1"})
    for properties, words in (
        (
            {"hw_tpm_version": "2.0"},
            "Conflicting values for tpm_version found in the flavor (1.2) and the image (2.0).",
        ),
        ({"hw_serial_port_count": "2"}, "Forbidden to exceed flavor value of number of serial ports"),
        ({"hw_video_ram": "64"}, "The requested amount of video memory 64 is higher"),
        ({"hw_mem_encryption": "true"}, "Memory encryption requested, but the image does not have"),
    ):
        answer = small.post_server(flavorRef=wanted, imageRef=image(small, **properties))
        assert answer.status == 400, answer.raw
        assert words in answer.json["badRequest"]["message"]


def test_a_resize_to_contradicting_hardware_is_refused(small: Federation) -> None:
    uuid = small.boot(imageRef=image(small, hw_tpm_version="2.0"))
    answer = small.act(uuid, "resize", {"flavorRef": flavor(small, {"hw:tpm_version": "1.2"})})
    assert answer.status == 400, answer.raw
    assert "Conflicting values for tpm_version" in answer.json["badRequest"]["message"]


def test_a_rebuild_from_an_image_that_the_host_cannot_start_is_refused(small: Federation) -> None:
    uuid = small.boot()
    for properties, status, words in (
        ({"hw_mem_encryption": "true", **UEFI}, 409, f"The host of instance {uuid} lacks trait HW_CPU_X86_AMD_SEV."),
        ({"hw_numa_nodes": "2"}, 409, f"The host of instance {uuid} offers no NUMA topology."),
        ({"hw_tpm_model": "tpm-crb"}, 400, "A TPM model was requested without a TPM version."),
    ):
        answer = small.act(uuid, "rebuild", {"imageRef": image(small, **properties)})
        assert answer.status == status, answer.raw
        (refusal,) = answer.json.values()
        assert refusal["message"] == words
    assert small.settled(uuid)["status"] == "ACTIVE"
    assert small.act(uuid, "rebuild", {"imageRef": image(small, hw_tpm_version="2.0")}).status == 202
    assert small.settled(uuid)["status"] == "ACTIVE"
