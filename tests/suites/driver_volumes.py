"""What every driver must do whose guests have volumes (`virt.driver.Attachable`).

A subclass gives the fixtures `driver` (started), `image` (a bootable file and its format), `new_device` (makes a device
whose volume can be reached) and `volumes_of` (the volumes of a guest by its uuid, the same in all its definitions)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import pytest

from cell_service.errors import DriverError, GuestNotFound, OperationLost
from cell_service.model.block_device import BlockDevice
from compute_host.virt.driver import Attachable, Disk, Driver, GuestSpec, Swapping
from tests.suites.driver import as_it_is, spec_of

NewDevice = Callable[..., BlockDevice]
VolumesOf = Callable[[str], set[str]]


class AttachableDriver(Driver, Attachable, Protocol):
    """A driver whose guests can have volumes."""


class SwappingDriver(Driver, Swapping, Protocol):
    """A driver whose guests' volumes can be swapped."""


def unhurried() -> None:
    """No other operation is waiting."""


def overtaken() -> None:
    raise OperationLost(operation_id=1, fence=1)


def with_volumes(spec: GuestSpec, *devices: BlockDevice) -> GuestSpec:
    """The guest that exists, whose instance has these devices."""
    return replace(as_it_is(spec), instance=replace(spec.instance, block_devices=devices))


def ids(*devices: BlockDevice) -> set[str]:
    return {device.volume_id or "" for device in devices}


class VolumeSuite:
    @pytest.fixture
    def guest(self, image: tuple[Path, str]) -> GuestSpec:
        """Of a guest that releases its volumes at once."""
        return spec_of(*image, properties={"hw_disk_bus": "scsi"})

    def test_the_connector_is_what_a_request_can_have(self, driver: AttachableDriver) -> None:
        known = driver.volume_connector()
        assert json.loads(json.dumps(known)) == known
        assert known["multipath"] is False

    @pytest.mark.parametrize("runs", [True, False])
    def test_a_volume_is_attached_and_detached_repeatedly(
        self, driver: AttachableDriver, guest: GuestSpec, new_device: NewDevice, volumes_of: VolumesOf, runs: bool
    ) -> None:
        uuid, one, other = guest.instance.uuid, new_device(), new_device("/dev/vdc")
        driver.spawn(guest)
        if not runs:
            driver.power_off(uuid, graceful_seconds=0)
        for device in (one, one, other):
            driver.attach_volume(guest, device)
        assert volumes_of(uuid) == ids(one, other)
        for _ in range(2):
            driver.detach_volume(uuid, one)
        assert volumes_of(uuid) == ids(other)
        if not runs:
            driver.power_on(with_volumes(guest, other))
        assert volumes_of(uuid) == ids(other)

    def test_a_guest_is_made_with_the_volumes_of_its_instance(
        self, driver: AttachableDriver, guest: GuestSpec, new_device: NewDevice, volumes_of: VolumesOf
    ) -> None:
        uuid, root, data = guest.instance.uuid, new_device("/dev/vda", boot_index=0), new_device()
        spec = replace(with_volumes(guest, root, data), disks=(Disk("root", 0),))
        driver.spawn(spec)
        driver.spawn(spec)
        assert volumes_of(uuid) == ids(root, data)
        driver.reboot(spec, hard=True)
        assert volumes_of(uuid) == ids(root, data)
        driver.destroy(uuid)
        driver.spawn(spec)
        assert volumes_of(uuid) == ids(root, data)

    def test_a_hard_reboot_gives_a_guest_the_volumes_that_its_instance_has_by_then(
        self, driver: AttachableDriver, guest: GuestSpec, new_device: NewDevice, volumes_of: VolumesOf
    ) -> None:
        uuid, one, other = guest.instance.uuid, new_device(), new_device()
        driver.spawn(guest)
        driver.attach_volume(guest, one)
        driver.reboot(with_volumes(guest, other), hard=True)
        assert volumes_of(uuid) == ids(other)

    def test_a_guest_that_is_not_there_has_no_volumes(
        self, driver: AttachableDriver, guest: GuestSpec, new_device: NewDevice
    ) -> None:
        with pytest.raises(GuestNotFound):
            driver.attach_volume(guest, new_device())
        with pytest.raises(GuestNotFound):
            driver.extend_volume(str(uuid4()), new_device())
        before = driver.guests()
        driver.detach_volume(guest.instance.uuid, new_device())
        assert driver.guests() == before

    def test_a_host_is_disconnected_from_a_volume_of_a_guest_that_is_off(
        self, driver: AttachableDriver, guest: GuestSpec, new_device: NewDevice, volumes_of: VolumesOf
    ) -> None:
        uuid, device = guest.instance.uuid, new_device()
        driver.spawn(guest)
        driver.attach_volume(guest, device)
        with pytest.raises(DriverError):
            driver.disconnect_volume(uuid, device.volume_id or "")
        driver.power_off(uuid, graceful_seconds=0)
        for _ in range(2):
            driver.disconnect_volume(uuid, device.volume_id or "")
        driver.power_on(with_volumes(guest, device))
        assert volumes_of(uuid) == ids(device)

    def test_a_new_size_is_reported_repeatedly(
        self, driver: AttachableDriver, guest: GuestSpec, new_device: NewDevice, volumes_of: VolumesOf
    ) -> None:
        device = new_device()
        driver.spawn(guest)
        driver.attach_volume(guest, device)
        driver.extend_volume(guest.instance.uuid, device)
        driver.power_off(guest.instance.uuid, graceful_seconds=0)
        driver.extend_volume(guest.instance.uuid, device)
        assert volumes_of(guest.instance.uuid) == ids(device)


class SwapSuite(VolumeSuite):
    """Of drivers whose guests' volumes can be swapped, too."""

    def test_a_volume_is_swapped_repeatedly_and_back(
        self, driver: SwappingDriver, guest: GuestSpec, new_device: NewDevice, volumes_of: VolumesOf
    ) -> None:
        uuid, one, other = guest.instance.uuid, new_device(), new_device()
        driver.spawn(guest)
        driver.attach_volume(guest, one)
        for _ in range(2):
            driver.swap_volume(guest, one, other, unhurried)
            assert volumes_of(uuid) == ids(other)
        driver.attach_volume(guest, one)
        assert volumes_of(uuid) == ids(one, other)
        driver.detach_volume(uuid, one)
        driver.swap_volume(guest, other, one, unhurried)
        assert volumes_of(uuid) == ids(one)
        driver.swap_volume(guest, one, other, unhurried)
        driver.reboot(with_volumes(guest, other), hard=True)
        assert volumes_of(uuid) == ids(other)
        driver.detach_volume(uuid, other)
        assert volumes_of(uuid) == set()

    def test_a_swap_that_is_overtaken_is_ended_or_undone_afterwards(
        self, driver: SwappingDriver, guest: GuestSpec, new_device: NewDevice, volumes_of: VolumesOf
    ) -> None:
        uuid, one, other = guest.instance.uuid, new_device(), new_device()
        driver.spawn(guest)
        driver.attach_volume(guest, one)
        for _ in range(2):
            with pytest.raises(OperationLost):
                driver.swap_volume(guest, one, other, overtaken)
        assert volumes_of(uuid) == ids(one)
        driver.swap_volume(guest, one, other, unhurried)
        assert volumes_of(uuid) == ids(other)
        with pytest.raises(OperationLost):
            driver.swap_volume(guest, other, one, overtaken)
        driver.destroy(uuid)
        assert driver.guests() == ()

    def test_a_guest_that_is_not_there_swaps_nothing(
        self, driver: SwappingDriver, guest: GuestSpec, new_device: NewDevice
    ) -> None:
        with pytest.raises(GuestNotFound):
            driver.swap_volume(guest, new_device(), new_device(), unhurried)
