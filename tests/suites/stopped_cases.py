"""The actions that are stopped in the middle (see tests/suites/stopping.py)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import uuid4

from cell_service.db import actions, instances
from cell_service.model import shelved
from cell_service.model.block_device import BlockDevice, of_volume
from cell_service.model.lifecycle import State, VmState
from cell_service.model.share import ShareStatus
from cell_service.operations.builds import REBUILD
from cell_service.operations.declaration import Operation
from cell_service.operations.deletes import RESTORE, SOFT_DELETE
from cell_service.operations.guests import CHANGE_PASSWORD, CRASH_DUMP
from cell_service.operations.images import CREATE_BACKUP, CREATE_IMAGE
from cell_service.operations.interfaces import ATTACH_INTERFACE, DETACH_INTERFACE
from cell_service.operations.power import START, STOP
from cell_service.operations.rescue import RESCUE, UNRESCUE
from cell_service.operations.shares import ATTACH_SHARE, DETACH_SHARE
from cell_service.operations.shelving import SHELVE, UNSHELVE
from cell_service.operations.volumes import (
    ATTACH_VOLUME,
    DETACH_VOLUME,
    EXTEND_VOLUME,
    SNAPSHOT_VOLUME,
    SWAP_VOLUME,
    UNSNAPSHOT_VOLUME,
)
from cell_service.peers.image import NewImage
from tests.suites.stopping import HOST, Case, Place, plain

MARKS = {"image_type": "backup", "backup_type": "daily"}


def up(place: Place, **fields: Any) -> None:
    place.uuid = place.cell.boot(HOST, **fields)
    place.run()


def attaching(place: Place) -> None:
    up(place)
    place.wanted["volume"] = place.volume()
    device = place.device(place.wanted["volume"], delete_on_termination=True)
    place.work(ATTACH_VOLUME, (device,), device=device.uuid)


def attached(place: Place) -> BlockDevice:
    attaching(place)
    place.run()
    (device,) = place.devices()
    assert place.on_guest() == {place.wanted["volume"]: 1}
    return device


def detaching(place: Place) -> None:
    device = attached(place)
    place.work(DETACH_VOLUME, (replace(device, detaching=True),), device=device.uuid)


def swapping(place: Place) -> None:
    device = attached(place)
    place.wanted["new"] = place.volume()
    reserved = place.storage.volumes.reserve(place.ctx(), place.wanted["new"], place.uuid)
    place.work(SWAP_VOLUME, device=device.uuid, volume_id=place.wanted["new"], attachment_id=reserved)


def extending(place: Place) -> None:
    device = attached(place)
    place.storage.extend(place.wanted["volume"], 2)
    place.work(EXTEND_VOLUME, device=device.uuid)


def taking_snapshot(place: Place) -> None:
    attached(place)
    held = place.wanted["volume"]
    place.wanted["snapshot"] = place.storage.snapshot(held, "creating")
    place.work(SNAPSHOT_VOLUME, volume_id=held, snapshot_id=place.wanted["snapshot"], new_file="volume.1")


def removing_snapshot(place: Place) -> None:
    taking_snapshot(place)
    place.run()
    assert list(place.guest().volume_snapshots) == [place.wanted["snapshot"]]
    held, old = place.wanted["volume"], place.wanted["snapshot"]
    place.wanted["snapshot"] = place.storage.snapshot(held, "deleting")
    driver = place.cell.hosts[HOST].driver
    driver.snapshot_volume(place.uuid, place.devices()[0], place.wanted["snapshot"], "volume.2")
    driver.remove_volume_snapshot(place.uuid, place.devices()[0], old, None, None)
    place.work(UNSNAPSHOT_VOLUME, volume_id=held, snapshot_id=place.wanted["snapshot"], file_to_merge="volume.2")


def _backed(place: Place) -> tuple[BlockDevice, ...]:
    place.storage.images.records[place.cell.image_id] = place.cell.images.records[place.cell.image_id]
    place.storage.images.contents[place.cell.image_id] = place.cell.images.contents[place.cell.image_id]
    root = BlockDevice(str(uuid4()), "image", "volume", 0, "/dev/vda", image_id=place.cell.image_id, volume_size=1,
                       delete_on_termination=True)  # fmt: skip
    blank = BlockDevice(str(uuid4()), "blank", "volume", None, "/dev/vdb", volume_size=2, delete_on_termination=True)
    return root, blank


def booting(place: Place) -> None:
    """From a volume made of an image, with a blank one beside it."""
    place.uuid = place.cell.boot(HOST, image_ref="", block_devices=_backed(place))
    with place.cell.db.connect() as tx:
        place.request_id = actions.list_of(tx, place.uuid)[0].request_id


def plugging(place: Place) -> None:
    if not place.uuid:
        up(place)
    place.act(ATTACH_INTERFACE, {"key": "k", "port_id": None, "network_id": None, "tag": None})


def unplugging(place: Place) -> None:
    plugging(place)
    place.run()
    port_id = place.cell.instance(place.uuid).network_info[-1].port_id
    place.act(DETACH_INTERFACE, {"port_id": port_id})


def rescuing(place: Place) -> None:
    up(place)
    place.act(RESCUE, {"admin_password": "secret"})


def unrescuing(place: Place) -> None:
    rescuing(place)
    place.run()
    place.act(UNRESCUE)


def imaging(place: Place, kind: Operation[Any, Any] = CREATE_IMAGE, **more: Any) -> None:
    if not place.uuid:
        up(place)
    marks = {**MARKS, "instance_uuid": place.uuid}
    image = NewImage(str(uuid4()), "copy", "p", disk_format="", properties=marks)
    place.cell.images.reserve(place.ctx(), image)
    place.wanted["image"] = image.id
    place.act(kind, {"new_image": plain(image), **more})


def imaging_volumes(place: Place) -> None:
    booting(place)
    place.run()
    imaging(place)


def backing_up(place: Place) -> None:
    """The second of its kind, of which one is to stay."""
    imaging(place, CREATE_BACKUP, rotation=1)
    place.run()
    place.wanted["old"] = place.wanted["image"]
    imaging(place, CREATE_BACKUP, rotation=1)


def shelving(place: Place) -> None:
    up(place)
    image_id = str(uuid4())
    place.wanted["image"] = image_id
    known = shelved.begun(place.cell.instance(place.uuid).system_metadata, image_id)
    place.act(SHELVE, {"image": image_id}, system_metadata=known)


def unshelving(place: Place) -> None:
    shelving(place)
    place.run()
    place.act(UNSHELVE)


def rebuilding(place: Place) -> None:
    attached(place)
    place.wanted["to"] = place.cell.images.add(b"another image")
    place.act(REBUILD)
    now = place.cell.clock.now()
    place.cell.db.run(lambda tx: instances.change(tx, place.uuid, now=now, image_ref=place.wanted["to"]))


def reimaging(place: Place) -> None:
    booting(place)
    place.run()
    place.wanted["to"] = place.storage.images.add(b"another image")
    place.act(REBUILD, {"image": place.wanted["to"], "reimage": True})


def soft_deleting(place: Place) -> None:
    attached(place)
    place.act(SOFT_DELETE)


def restoring(place: Place) -> None:
    soft_deleting(place)
    place.run()
    place.act(RESTORE)


def changing_password(place: Place) -> None:
    up(place, system_metadata={"image_hw_qemu_guest_agent": "yes"})
    place.act(CHANGE_PASSWORD, {"admin_password": "secret"})


def dumping(place: Place) -> None:
    up(place)
    place.act(CRASH_DUMP)


def attaching_share(place: Place) -> None:
    up(place)
    place.act(STOP)
    place.run()
    place.wanted["share"] = place.storage.share()
    mapping = place.mapping(place.wanted["share"])
    place.act(ATTACH_SHARE, {"share": mapping.uuid}, shares=(mapping,))


def detaching_share(place: Place) -> None:
    attaching_share(place)
    place.run()
    held = place.share()
    assert held is not None
    assert held.usable
    going = replace(held, status=ShareStatus.DETACHING)
    place.act(DETACH_SHARE, {"share": held.uuid}, shares=(going,))


def starting_with_share(place: Place) -> None:
    attaching_share(place)
    place.run()
    place.act(START)


def _shared(place: Place) -> bool:
    mapping = place.share()
    return mapping is not None and mapping.usable


def _is(state: VmState) -> Any:
    return lambda place: place.cell.instance(place.uuid).state == State(state)


def _has(name: str) -> Any:
    return lambda place: place.has(place.wanted[name])


def _has_not(name: str) -> Any:
    return lambda place: not place.has(place.wanted[name])


def _active_image(place: Place) -> bool:
    image = place.cell.images.records.get(place.wanted["image"])
    return image is not None and image.status == "active"


def _extended(place: Place) -> bool:
    device = of_volume(place.devices(), place.wanted["volume"])
    return device is not None and device.volume_size == 2


def _snapshot(place: Place, *, there: bool, told: tuple[str, str]) -> bool:
    """Whether the guest has it or not as it should; the block storage service was told that, or of the failure."""
    done = (place.wanted["snapshot"] in place.guest().volume_snapshots) is there
    status = place.storage.volumes.snapshot(place.ctx(), place.wanted["snapshot"]).status
    assert status == told[0 if done else 1]
    return done


def _rotated(place: Place) -> bool:
    return _active_image(place) and place.wanted["old"] not in place.cell.images.records


def _remade(place: Place) -> bool:
    return bool(place.cell.guests_of(place.uuid)) and place.guest().image == place.wanted["to"]


def _reimaged(place: Place) -> bool:
    root = next(device for device in place.devices() if device.is_root)
    known = place.storage.volumes.get(place.ctx(), root.volume_id or "").image
    active = place.cell.instance(place.uuid).vm_state is VmState.ACTIVE
    return active and known["image_id"] == place.wanted["to"] and bool(place.cell.guests_of(place.uuid))


def _remarked(words: str) -> Any:
    return lambda place: words in place.cell.hosts[HOST].driver.console_output(place.uuid)


CASES = (
    Case("attach_volume", attaching, _has("volume")),
    Case("detach_volume", detaching, _has_not("volume")),
    Case("swap_volume", swapping, _has("new")),
    Case("extend_volume", extending, _extended),
    Case("snapshot_volume", taking_snapshot,
         lambda place: _snapshot(place, there=True, told=("creating", "error"))),
    Case("remove_volume_snapshot", removing_snapshot,
         lambda place: _snapshot(place, there=False, told=("deleting", "error_deleting"))),
    Case("boot_from_volume", booting, _is(VmState.ACTIVE)),
    Case("attach_interface", plugging, lambda place: len(place.cell.instance(place.uuid).network_info) == 2),
    Case("detach_interface", unplugging, lambda place: len(place.cell.instance(place.uuid).network_info) == 1),
    Case("attach_share", attaching_share, _shared),
    Case("detach_share", detaching_share, lambda place: place.share() is None),
    Case("start_with_share", starting_with_share, _is(VmState.ACTIVE)),
    Case("rescue", rescuing, _is(VmState.RESCUED)),
    Case("unrescue", unrescuing, _is(VmState.ACTIVE)),
    Case("createImage", imaging, _active_image),
    Case("createImage_of_volumes", imaging_volumes, _active_image),
    Case("createBackup", backing_up, _rotated),
    Case("shelve", shelving, _is(VmState.SHELVED)),
    Case("unshelve", unshelving, _is(VmState.ACTIVE)),
    Case("rebuild", rebuilding, _remade),
    Case("rebuild_of_volumes", reimaging, _reimaged),
    Case("soft-delete", soft_deleting, _is(VmState.SOFT_DELETED)),
    Case("restore", restoring, _is(VmState.ACTIVE)),
    Case("changePassword", changing_password, _remarked("the administrator has a new password")),
    Case("trigger_crash_dump", dumping, _remarked("NMI received")),
)  # fmt: skip
