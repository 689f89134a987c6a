"""A volume as the system of a guest sees it: it comes, is written to, grows and goes while the guest runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("libvirt", reason="needs libvirt-python")

from compute_host.virt.driver import GIB, DriveFile
from tests.real.databases import wait_until
from tests.real.libvirt_driver import Bench
from tests.real.nbd import NbdVolume
from tests.suites.driver import SMALL, spec_of
from tools.guest.image import GuestImage

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

LONG_SECONDS = 240.0
MARKER = b"written by the guest"
SCRIPT = """\
#!/bin/sh
echo VOLUME-AWAITED
until disk=$(dirname $(grep -l '^{serial}' /sys/block/vd*/serial)) 2>/dev/null; do sleep 1; done
printf '{marker}' | dd of=/dev/${{disk##*/}} conv=notrunc 2>/dev/null
sync
echo VOLUME-WRITTEN $(cat $disk/size)
until [ "$(cat $disk/size)" = {larger} ]; do sleep 1; done
echo VOLUME-GROWN
while [ -d $disk ]; do sleep 1; done
echo VOLUME-GONE
"""
SERIAL = 20
"""The characters of a serial number that virtio has."""


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[NbdVolume]:
    made = NbdVolume(tmp_path)
    made.serve()
    yield made
    made.kill_server()


def test_a_running_guest_writes_to_a_volume_sees_it_grow_and_releases_it(
    bench: Bench, guest: GuestImage, volume: NbdVolume
) -> None:
    driver = bench._made[0]
    script = SCRIPT.format(serial=volume.id[:SERIAL], marker=MARKER.decode(), larger=2 * GIB // 512)
    files = (DriveFile("openstack/latest/meta_data.json", b'{"uuid": "u", "hostname": "inside"}'),
             DriveFile("openstack/latest/user_data", script.encode()))  # fmt: skip
    spec = replace(spec_of(guest.disk, "qcow2", replace(SMALL, memory_mib=192)), config_drive=files)
    uuid = spec.instance.uuid

    def says(words: str) -> None:
        wait_until(lambda: f"VOLUME-{words}" in driver.console_output(uuid), f"not {words}", LONG_SECONDS)

    driver.spawn(spec)
    says("AWAITED")
    driver.attach_volume(spec, volume.device())
    says(f"WRITTEN {GIB // 512}")
    with volume.file.open("rb") as file:
        assert file.read(len(MARKER)) == MARKER
    volume.kill_server()
    volume.extend(2)
    volume.serve()
    driver.extend_volume(uuid, volume.device())
    says("GROWN")
    driver.detach_volume(uuid, volume.device())
    says("GONE")
    with driver._guest(uuid) as found:
        assert volume.id not in found.XMLDesc(0)
