"""A libvirt host whose disk is full in the middle of something."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("libvirt", reason="needs libvirt-python")

from cell_service.errors import HostOutOfSpace
from cell_service.model.lifecycle import PowerState
from compute_host.config import Ratios, Reserved
from compute_host.virt.driver import Disk, GuestSpec
from tests.real.libvirt_driver import Bench, boot_sector, printed
from tests.suites.driver import spec_of

pytestmark = pytest.mark.real

MIB = 2**20


@pytest.fixture
def spec(tmp_path: Path) -> GuestSpec:
    """A guest with 64 MiB on its root disk."""
    image = tmp_path / "image"
    image.write_bytes(boot_sector() + os.urandom(64 * MIB))
    return spec_of(image, "raw")


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 MiB."""
    place = tmp_path / "full"
    place.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=32M", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(mounting, check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_snapshot_without_space_leaves_nothing_and_the_guest_as_it_was(
    bench: Bench, spec: GuestSpec, full: Path, tmp_path: Path
) -> None:
    driver, uuid = bench._made[0], spec.instance.uuid
    driver.spawn(spec)
    driver.power_off(uuid, graceful_seconds=0)
    with pytest.raises(HostOutOfSpace):
        driver.snapshot(uuid, full / "copy")
    assert list(full.iterdir()) == []
    driver.snapshot(uuid, tmp_path / "copy")
    assert (tmp_path / "copy").stat().st_size > 64 * MIB
    driver.power_on(spec)
    assert driver.power_state(uuid) is PowerState.RUNNING


def test_preallocated_disks_without_space_start_no_guest(bench: Bench, spec: GuestSpec, full: Path) -> None:
    guests = replace(bench.settings.guests, preallocate_images="space")
    driver = bench.driver(replace(bench.settings, state=full / "h1", guests=guests, ratios=Ratios(disk=100)))
    with pytest.raises(HostOutOfSpace, match="MiB free"):
        driver.spawn(replace(spec, disks=(replace(spec.disks[0], size_bytes=128 * MIB),)))
    assert driver.guests() == ()
    assert bench.driver().guests() == ()


def test_guests_start_from_preallocated_disks(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(boot_sector())
    for images_type in ("qcow2", "raw"):
        driver = bench.driver(
            replace(
                bench.settings,
                libvirt=replace(bench.settings.libvirt, images_type=images_type),
                guests=replace(bench.settings.guests, preallocate_images="space"),
            )
        )
        disks = (Disk("root", 8 * MIB, tmp_path / "image", "raw"), Disk("ephemeral", 8 * MIB), Disk("swap", MIB))
        spec = replace(spec_of(tmp_path / "image", "raw"), disks=disks)
        driver.spawn(spec)
        printed(driver, spec.instance.uuid)
        driver.destroy(spec.instance.uuid)


def test_space_that_is_reserved_for_the_host_is_not_given_to_guests(bench: Bench, spec: GuestSpec) -> None:
    total_gib = bench._made[0].nodes()[0].local_gib
    driver = bench.driver(replace(bench.settings, reserved=Reserved(disk_gib=total_gib)))
    with pytest.raises(HostOutOfSpace, match="GiB of disk"):
        driver.spawn(spec)
    assert driver.guests() == ()
