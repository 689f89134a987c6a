"""What a host must be able to do to attach a volume to a guest in the state that it is in, or to detach it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from cell_service.model import plugging
from cell_service.model.ability import Ability
from cell_service.model.block_device import BlockDevice
from cell_service.model.instance import Flavor, Instance
from cell_service.model.lifecycle import PowerState, VmState

FLAVOR = Flavor(flavorid="1", name="small", vcpus=1, memory_mib=128, root_gib=1)
ONE = Instance("uuid", "p", "u", "one", "one", FLAVOR, datetime(2026, 1, 1, tzinfo=UTC))
VOLUME = BlockDevice("device", "volume", "volume", volume_id="volume")
Q35, DRIVE = {"image_hw_machine_type": "pc-q35-7.2"}, Ability.DRIVE_PLUGS


@pytest.mark.parametrize(
    ("state", "power", "expected"),
    [
        (VmState.ACTIVE, PowerState.RUNNING, DRIVE),
        (VmState.PAUSED, PowerState.PAUSED, DRIVE),
        (VmState.RESIZED, PowerState.RUNNING, DRIVE),
        (VmState.RESIZED, PowerState.SHUTDOWN, None),
        (VmState.STOPPED, PowerState.SHUTDOWN, None),
        (VmState.SUSPENDED, PowerState.SUSPENDED, Ability.SUSPENDED_PLUGS),
        (VmState.SHELVED, PowerState.SHUTDOWN, None),
    ],
)
def test_it_depends_on_the_state_of_the_guest(state: VmState, power: PowerState, expected: Ability | None) -> None:
    instance = replace(ONE, vm_state=state, power_state=power)
    assert plugging.needed(instance, replace(VOLUME, disk_bus="sata")) is expected
    on_virtio = expected if expected is Ability.SUSPENDED_PLUGS else None
    assert plugging.needed(instance, VOLUME) is on_virtio


@pytest.mark.parametrize(
    ("known", "fields", "expected"),
    [
        ({}, {}, "virtio"),
        ({"image_hw_disk_bus": "IDE"}, {}, "ide"),
        ({"image_hw_disk_bus": "sata"}, {"disk_bus": "scsi"}, "scsi"),
        ({"image_hw_disk_bus": "sata"}, {"device_type": "cdrom"}, "ide"),
        ({**Q35, "image_hw_disk_bus": "sata"}, {"device_type": "cdrom"}, "scsi"),
        ({**Q35, "image_hw_cdrom_bus": "sata"}, {"device_type": "cdrom"}, "sata"),
        ({"image_hw_cdrom_bus": "ide"}, {"device_type": "lun"}, "virtio"),
    ],
)
def test_the_bus_is_that_of_the_device_or_of_the_image(
    known: dict[str, str], fields: dict[str, str], expected: str
) -> None:
    assert plugging.bus(replace(ONE, system_metadata=known), replace(VOLUME, **fields)) == expected
