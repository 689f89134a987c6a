"""Block devices that an image brings along: one made of a volume-backed server names snapshots of its volumes.

Form: the image's property `block_device_mapping`, JSON in the form of a create's block_device_mapping_v2 where the
property `bdm_v2` is true, else in that of the older block_device_mapping (Nova user guide, "Launch instance from
volume").
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace

from api_cell.servers.devices import DeviceRequest, check_order, older_form, read_device
from api_cell.servers.lists.query import boolean
from cell_service.errors import Invalid
from cell_service.model.block_device import BlockDevice
from cell_service.peers.image import Image

MAPPING, SECOND_FORM, ROOT = "block_device_mapping", "bdm_v2", "root_device_name"


def brings_devices(image: Image) -> bool:
    return image.properties.get(MAPPING, "").strip() not in ("", "[]")


def completed(request: DeviceRequest, named: Collection[str], image: Image) -> DeviceRequest:
    """The requested devices and those that the image brings along. A device that the request names (`named`) replaces
    the image's of that name, or with no_device removes it; the image's boot device replaces a boot volume that would
    be made of the image itself, which has no content. Raises Invalid."""
    brought = [device for device in _brought(image) if device.device_name is None or device.device_name not in named]
    boots = any(device.is_root for device in brought)
    own = [device for device in request.devices if not (boots and device.is_root and device.source_type == "image")]
    devices = [*brought, *own]
    check_order(devices, local_root=bool(request.image_id) and not boots)
    ordered = tuple(sorted(devices, key=lambda each: not each.is_root))
    return DeviceRequest(
        "" if boots else request.image_id, ordered, request.rootless and not boots, request.described_by
    )


def without_devices(image: Image) -> Image:
    """The image as recorded in servers that are made of its devices."""
    own = (MAPPING, SECOND_FORM, ROOT)
    return replace(image, properties={name: each for name, each in image.properties.items() if name not in own})


def _brought(image: Image) -> list[BlockDevice]:
    """The devices that the image names. All of them are checked, since users may write an image's properties."""
    try:
        found = json.loads(image.properties[MAPPING])
        given = [{name: value for name, value in each.items() if value is not None} for each in found]
        given = [each for each in given if not each.get("no_device")]
        if boolean(image.properties.get(SECOND_FORM, "false"), SECOND_FORM):
            return [_whole(read_device(each)) for each in given]
        return [_whole(each) for each in older_form(given, boots=True, root=_path(image.properties.get(ROOT)))]
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        reason = f"Block Device Mapping is Invalid: that of image {image.id} cannot be read."
        raise Invalid(reason=reason) from error


def _whole(device: BlockDevice) -> BlockDevice:
    """Raises ValueError for a device that no request could have."""
    texts = (device.device_name, device.device_type, device.disk_bus, device.volume_id, device.snapshot_id,
             device.image_id, device.volume_type, device.guest_format, device.tag)  # fmt: skip
    if not all(text is None or (isinstance(text, str) and len(text) <= 255) for text in texts):
        raise ValueError("a device's name, type or id is no text")
    if device.source_type not in ("volume", "snapshot", "image", "blank"):
        raise ValueError("a device has an unknown source")
    if device.destination_type not in ("volume", "local") or (device.volume_size or 1) < 1:
        raise ValueError("a device has an unknown destination or size")
    return device


def _path(name: object) -> str | None:
    return None if not name else str(name) if str(name).startswith("/dev/") else f"/dev/{name}"
