"""Images of real guests, rescue and shelving: a marker on the root disk says what became of it."""

from __future__ import annotations

import pytest

from tests.faults.crowd import force_down
from tests.faults.installation import Unmet
from tests.lab.lab import Guest, Lab

pytestmark = [pytest.mark.real, pytest.mark.faults, pytest.mark.timeout(1200)]

SECTOR = 2_000_000
"""Near the end of a disk of 1 GiB, where the guest's image has nothing."""


def write(cloud: Lab, guest: Guest, text: str) -> None:
    cloud.ssh(guest, f"printf {text} | dd of=/dev/vda bs=512 seek={SECTOR} conv=notrunc 2>/dev/null && sync")


def read(cloud: Lab, guest: Guest, disk: str = "vda") -> str:
    return cloud.ssh(guest, f"dd if=/dev/{disk} bs=512 skip={SECTOR} count=1 2>/dev/null | tr -d '\\000'").strip()


def until_active(cloud: Lab, image_id: str) -> None:
    def active() -> bool | Unmet:
        image = cloud.ask("GET", f"/v2/images/{image_id}", service="image")
        return image["status"] == "active" or Unmet(image["status"])

    cloud.installation.until(active, 300)


def test_a_marker_goes_through_images_rescue_and_shelving(cloud: Lab) -> None:
    guest = cloud.boot("origin", cloud.hosts[0])
    cloud.until_ready(guest)
    write(cloud, guest, "first-words")
    counted = cloud.count(guest)

    body = {"createImage": {"name": "copy"}}
    image = cloud.ask("POST", f"/servers/{guest.uuid}/action", body)["image_id"]
    until_active(cloud, image)
    cloud.until_status(guest, "ACTIVE")
    assert cloud.count(guest) > counted, "the guest did not go on while it was copied"
    write(cloud, guest, "later-words")
    copy = cloud.boot("copy", cloud.hosts[0], image=image)
    cloud.until_ready(copy)
    assert read(cloud, copy) == "first-words"
    cloud.ask("DELETE", f"/servers/{copy.uuid}")

    cloud.act(guest, "rescue", {})
    cloud.until_status(guest, "RESCUE")
    cloud.until_said(guest, r"POLYCELL-GUEST-READY", times=2)
    assert read(cloud, guest) == ""
    assert read(cloud, guest, "vdb") == "later-words"
    cloud.act(guest, "unrescue")
    cloud.until_ready(guest, times=3)
    assert read(cloud, guest) == "later-words"

    cloud.act(guest, "shelve")
    cloud.until_status(guest, "SHELVED_OFFLOADED")
    assert cloud.directories(guest.host) == []
    cloud.act(guest, "unshelve")
    cloud.until_ready(guest)
    assert read(cloud, guest) == "later-words"
    cloud.ask("DELETE", f"/v2/images/{image}", service="image")


def test_an_evacuated_guest_is_made_again_on_another_host(cloud: Lab) -> None:
    guest = cloud.boot("leaves", cloud.hosts[0])
    cloud.until_ready(guest)
    assert force_down(cloud.installation, guest.host, True)
    try:
        cloud.act(guest, "evacuate", {})
        cloud.until_ready(guest)
        place = cloud.server(guest)["OS-EXT-SRV-ATTR:host"]
        assert place != guest.host
        assert cloud.domains(place) == {guest.uuid: True}
    finally:
        assert force_down(cloud.installation, guest.host, False)
    cloud.installation.until(lambda: not (left := cloud.left_on(guest.host)) or Unmet(left), 300)
