"""Block devices that the request for a new server names: read from the body, then checked against the other services.

Pairs of source and destination that can be: image→local (the boot image itself), image→volume, volume→volume,
snapshot→volume, blank→volume, blank→local (ephemeral or swap).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

from api_cell.caller import Caller
from api_cell.servers.lists.query import boolean
from api_cell.services import Services
from cell_service.context import Context
from cell_service.errors import Invalid, VolumeEncryptionNotSupported, VolumeNotFound
from cell_service.model.block_device import SWAP, BlockDevice, next_name
from cell_service.model.instance import Flavor
from cell_service.peers.image import Image
from cell_service.peers.volumes import Volume

ROOT_NAME = "/dev/vda"
_TO_VOLUME = frozenset({"image", "volume", "snapshot", "blank"})
_SEQUENCE = "Boot sequence for the instance and image/block device mapping combination is not valid."


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """The disks of a new server; `image_id` is that of a root disk on the host ("": the root disk is a volume).

    `rootless`: the body lists its devices in the form that has to name the one to boot from, and names none.
    `described_by` is the image whose properties the server has: also where it boots from a volume, if imageRef names
    an image or the volume is made of one; else "".
    """

    image_id: str
    devices: tuple[BlockDevice, ...] = ()
    rootless: bool = False
    described_by: str = ""


def parse_devices(server: dict[str, Any]) -> DeviceRequest:
    """The devices in the body of a create. Raises Invalid."""
    image_id: str = server.get("imageRef") or ""
    old, new = server.get("block_device_mapping") or (), server.get("block_device_mapping_v2") or ()
    if old and new:
        raise Invalid(reason="Using different block_device_mapping syntaxes is not allowed in the same request.")
    if old:
        made = older_form([each for each in old if not each.get("no_device")], boots=not image_id)
    else:
        made = [read_device(each) for each in new if not each.get("no_device")]
    images = [each for each in made if each.source_type == "image" and not each.is_volume]
    for each in images:
        if not each.is_root:
            raise _bad("an image on a local disk is the boot disk.")
        if image_id and each.image_id != image_id:
            raise _bad("it boots from another image than imageRef.")
        image_id = each.image_id or ""
    devices = [each for each in made if each not in images]
    root = next((each for each in devices if each.is_root), None)
    check_order(devices, local_root=bool(images) or bool(image_id and root is None))
    described_by = image_id
    if root is not None:
        if not root.is_volume:
            raise _bad("a blank disk on the host is no boot disk.")
        described_by, image_id = image_id or root.image_id or "", ""
    elif not image_id:
        raise Invalid(reason="Invalid imageRef provided.")
    if sum(each.is_swap for each in devices) > 1:
        raise _bad("More than one swap drive requested.")
    tags = [each.tag for each in devices if each.tag]
    if len(set(tags)) != len(tags):
        raise Invalid(reason="Duplicate tags found for devices")
    rootless = bool(new and made) and not any(each.is_root for each in made)
    return DeviceRequest(image_id, tuple(_in_order(devices)), rootless, described_by)


def check_disks(request: DeviceRequest) -> None:
    """Raises Invalid where no device to boot from is named, or two devices are one volume or have one name."""
    if request.rootless:
        raise _bad(_SEQUENCE)
    volumes = [each.volume_id for each in request.devices if each.volume_id is not None]
    if len(set(volumes)) != len(volumes):
        raise _bad("a volume is named more than once.")
    names = [ROOT_NAME, *(each.device_name for each in request.devices if each.device_name and not each.is_root)]
    if len(set(names)) != len(names):
        raise _bad("a device name is used more than once.")


def check(
    services: Services,
    caller: Caller,
    flavor: Flavor,
    devices: Sequence[BlockDevice],
    count: int,
    *,
    multiattach: bool,
    described: bool,
) -> tuple[Image | None, bool]:
    """Check that all that the devices name exists and may be used. Answers what is known of the image that a
    volume-backed server boots from, None for others; and whether a volume is known to be encrypted. `multiattach`:
    volumes for several servers may be used (2.60). `described`: an image is named as well, and says what is booted;
    else a volume to boot from must be marked bootable.

    Raises Invalid, ImageNotFound.
    """
    if devices:
        caller.demand("os_compute_api:servers:create:attach_volume")
    local = [each for each in devices if not each.is_volume]
    if any((each.volume_size or 0) > flavor.swap_mib for each in local if each.is_swap):
        raise _bad("Swap drive requested is larger than instance type allows.")
    if sum(each.volume_size or flavor.ephemeral_gib for each in local if not each.is_swap) > flavor.ephemeral_gib:
        raise _bad("Ephemeral disks requested are larger than the instance type allows.")
    image, encrypted = None, False
    for device in devices:
        if device.is_volume:
            found, on_it = _checked(services, caller.ctx, device, count, multiattach=multiattach, described=described)
            image, encrypted = found if device.is_root else image, encrypted or on_it
    return image, encrypted


def for_one(devices: Iterable[BlockDevice]) -> tuple[BlockDevice, ...]:
    """The devices as one server has them: with uuids of their own, and names."""
    made: list[BlockDevice] = []
    for device in devices:
        name = ROOT_NAME if device.is_root else device.device_name or next_name(made)
        made.append(replace(device, uuid=str(uuid4()), device_name=name))
    return tuple(made)


def _checked(
    services: Services, ctx: Context, device: BlockDevice, count: int, *, multiattach: bool, described: bool
) -> tuple[Image, bool]:
    """The properties of the image that is on the device's volume, and whether that is known to be encrypted."""
    service, ctx = services.require_volumes(), ctx
    if device.source_type == "image":
        image = services.require_images().get(ctx, device.image_id or "")
        least = max(image.min_disk_gib, -(-image.size_bytes // 1024**3))
        if (device.volume_size or 0) < least:
            raise Invalid(reason=f"Volume size {device.volume_size} GB is smaller than image {image.id} needs.")
        return image, False
    if device.source_type == "volume":
        volume = service.get(ctx, device.volume_id or "")
        _check_volume(volume, count, multiattach=multiattach)
        if device.is_root and not volume.bootable and not described:
            raise _bad(f"Block Device {volume.id} is not bootable.")
        return _image_on(volume), volume.encrypted
    if device.source_type == "snapshot":
        snapshot = service.snapshot(ctx, device.snapshot_id or "")
        if device.volume_size is not None and device.volume_size < snapshot.size_gib:
            raise Invalid(reason="Volume size is smaller than the snapshot's.")
        try:
            origin = service.get(ctx, snapshot.volume_id)
        except VolumeNotFound:
            return _image_on(None), False
        return _image_on(origin), origin.encrypted
    return _image_on(None), False


def demand_plain(volume: Volume) -> None:
    """Raises VolumeEncryptionNotSupported, for what is not done with encrypted volumes."""
    if volume.encrypted:
        raise VolumeEncryptionNotSupported(volume_type=volume.volume_type, volume_id=volume.id)


def _check_volume(volume: Volume, count: int, *, multiattach: bool) -> None:
    if volume.multiattach and not multiattach:
        raise Invalid(reason="Multiattach volumes are only supported starting with compute API version 2.60.")
    if volume.status != "available" and not (volume.multiattach and volume.status == "in-use"):
        raise Invalid(reason=f"Invalid volume: status of volume {volume.id} is {volume.status}, not available.")
    if count > 1 and not volume.multiattach:
        raise Invalid(reason="Cannot attach one or more volumes to multiple instances")


def _image_on(volume: Volume | None) -> Image:
    known = {} if volume is None else volume.image
    fixed = ("image_id", "image_name", "size", "min_disk", "min_ram", "disk_format", "container_format", "checksum")
    return Image(
        id="",
        name=known.get("image_name", ""),
        status="active",
        disk_format=known.get("disk_format", ""),
        container_format=known.get("container_format", ""),
        size_bytes=0,
        min_disk_gib=0,
        min_ram_mib=_whole(known.get("min_ram")),
        properties={name: value for name, value in known.items() if name not in fixed},
    )


def read_device(given: dict[str, Any]) -> BlockDevice:
    """One entry of a block_device_mapping_v2. Raises Invalid."""
    source = given.get("source_type")
    if source is None:
        source = next((kind for kind in ("volume", "snapshot", "image") if given.get(f"{kind}_id")), "blank")
    destination = given.get("destination_type") or ("volume" if source in ("volume", "snapshot") else "local")
    named = given.get("uuid") or given.get(f"{source}_id")
    if source != "blank" and not named:
        raise _bad(f"a device made from a {source} needs a uuid.")
    if destination == "local" and source not in ("image", "blank"):
        raise _bad(f"Mapping {source} to local is not supported.")
    size = given.get("volume_size")
    if destination == "volume" and source in ("image", "blank") and not size:
        raise _bad("Images and blank devices with destination_type 'volume' need to have a non-zero size specified")
    return BlockDevice(
        uuid="",
        source_type=source,
        destination_type=destination,
        boot_index=_index(given.get("boot_index")),
        device_name=device_path(given.get("device_name")),
        device_type=given.get("device_type"),
        disk_bus=given.get("disk_bus"),
        volume_id=named if source == "volume" else None,
        snapshot_id=named if source == "snapshot" else None,
        image_id=named if source == "image" else None,
        volume_size=int(size) if size else None,
        volume_type=given.get("volume_type") or None,
        delete_on_termination=_flag(given, default=destination == "local"),
        guest_format=given.get("guest_format"),
        tag=given.get("tag"),
    )


def _legacy(given: dict[str, Any]) -> BlockDevice:
    name = str(given.get("virtual_name") or "")
    if name.startswith(("ephemeral", SWAP)):
        more = {"guest_format": SWAP} if name == SWAP else {}
        return read_device({**_kept(given), "source_type": "blank", "destination_type": "local", **more})
    source = "volume" if given.get("volume_id") else "snapshot" if given.get("snapshot_id") else None
    if source is None:
        raise _bad("a device needs a volume or a snapshot.")
    return read_device({**_kept(given), "source_type": source, "destination_type": "volume"})


def _kept(given: dict[str, Any]) -> dict[str, Any]:
    names = ("volume_id", "snapshot_id", "volume_size", "device_name", "delete_on_termination")
    return {name: given[name] for name in names if name in given}


def older_form(given: Iterable[dict[str, Any]], *, boots: bool, root: str | None = None) -> list[BlockDevice]:
    """The devices of a block_device_mapping; where they boot, from the one called vda (or `root`), or else the first
    volume. Raises Invalid."""
    made = [_legacy(each) for each in given]
    volumes = [each for each in made if each.is_volume]
    first = next((each for each in volumes if each.device_name == (root or ROOT_NAME)), next(iter(volumes), None))
    return [replace(each, boot_index=0) if boots and each is first else each for each in made]


def check_order(devices: Sequence[BlockDevice], *, local_root: bool) -> None:
    """Raises Invalid where the device to boot from is not determined."""
    indexes = sorted(each.boot_index for each in devices if each.boot_index is not None and each.boot_index >= 0)
    if local_root:
        indexes = [0, *indexes]
    if indexes != list(range(len(indexes))):
        raise _bad(_SEQUENCE)


def _in_order(devices: Iterable[BlockDevice]) -> list[BlockDevice]:
    """The boot device first."""
    return sorted(devices, key=lambda each: not each.is_root)


def _index(value: Any) -> int | None:
    number = None if value is None or value == "" else int(value)
    return None if number is None or number < 0 else number


def device_path(name: str | None) -> str | None:
    """The name as a path below /dev, None for none."""
    return None if not name else name if name.startswith("/dev/") else f"/dev/{name}"


def _flag(given: dict[str, Any], *, default: bool) -> bool:
    value = given.get("delete_on_termination", default)
    return value if isinstance(value, bool) else boolean(value, "delete_on_termination")


def _whole(text: str | None) -> int:
    return int(text) if text is not None and text.isdigit() else 0


def _bad(reason: str) -> Invalid:
    return Invalid(reason=f"Block Device Mapping is Invalid: {reason}")
