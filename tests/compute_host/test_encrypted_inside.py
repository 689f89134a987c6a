"""An encrypted volume as the systems of guests see it: one writes to it, another reads that, and its storage does not
have it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("libvirt", reason="needs libvirt-python")

from compute_host.virt.driver import GIB, DriveFile, GuestSpec
from tests.compute_host.test_libvirt_encrypted import MAGIC, Encrypted
from tests.real.databases import wait_until
from tests.real.libvirt_driver import Bench
from tests.suites.driver import SMALL, spec_of
from tools.guest.image import GuestImage

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

LONG_SECONDS = 240.0
MARKER = b"for no other eyes than these"
AWAIT = """\
#!/bin/sh
echo VOLUME-AWAITED
until disk=$(dirname $(grep -l '^{serial}' /sys/block/vd*/serial)) 2>/dev/null; do sleep 1; done
"""
WRITE = (
    AWAIT
    + """\
printf '{marker}' | dd of=/dev/${{disk##*/}} conv=notrunc 2>/dev/null
sync
echo VOLUME-WRITTEN $(cat $disk/size)
first=$(cat $disk/size)
until [ "$(cat $disk/size)" -gt $first ]; do sleep 1; done
echo VOLUME-GROWN $(cat $disk/size)
while [ -d $disk ]; do sleep 1; done
echo VOLUME-GONE
"""
)
READ = (
    AWAIT
    + """\
echo VOLUME-READ-$(dd if=/dev/${{disk##*/}} bs={length} count=1 2>/dev/null)
"""
)
SERIAL = 20


def guest_that(guest: GuestImage, script: str, one: Encrypted) -> GuestSpec:
    text = script.format(serial=one.id[:SERIAL], marker=MARKER.decode(), length=len(MARKER))
    files = (DriveFile("openstack/latest/meta_data.json", b'{"uuid": "u", "hostname": "inside"}'),
             DriveFile("openstack/latest/user_data", text.encode()))  # fmt: skip
    return replace(spec_of(guest.disk, "qcow2", replace(SMALL, memory_mib=192)), config_drive=files)


def test_a_guest_writes_to_an_encrypted_volume_and_another_reads_it(
    bench: Bench, guest: GuestImage, tmp_path: Path
) -> None:
    driver, one = bench._made[0], Encrypted(bench, tmp_path)
    writer, reader = guest_that(guest, WRITE, one), guest_that(guest, READ, one)

    def says(spec: GuestSpec, words: str) -> None:
        uuid = spec.instance.uuid
        wait_until(lambda: f"VOLUME-{words}" in driver.console_output(uuid), f"not {words}", LONG_SECONDS)

    try:
        driver.spawn(writer)
        says(writer, "AWAITED")
        driver.attach_volume(writer, one.device())
        header = int.from_bytes(one.begins(108)[104:], "big") * 512
        says(writer, f"WRITTEN {(GIB - header) // 512}")
        assert one.begins(len(MAGIC)) == MAGIC
        assert MARKER not in one.begins(2**24)
        one.volume.kill_server()
        one.volume.extend(2)
        one.volume.serve()
        driver.extend_volume(writer.instance.uuid, one.device())
        says(writer, f"GROWN {(2 * GIB - header) // 512}")
        driver.detach_volume(writer.instance.uuid, one.device())
        says(writer, "GONE")
        driver.destroy(writer.instance.uuid)
        driver.spawn(reader)
        says(reader, "AWAITED")
        driver.attach_volume(reader, one.device())
        says(reader, f"READ-{MARKER.decode()}")
    finally:
        one.volume.kill_server()
