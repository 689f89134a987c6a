"""Images that servers are made from: whether one may be used, and what the server records of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from api_cell.caller import Caller
from cell_service.errors import Forbidden, Invalid
from cell_service.model.block_device import BlockDevice
from cell_service.model.instance import Flavor
from cell_service.peers.image import Image

ZERO_DISK_RULE = "os_compute_api:servers:create:zero_disk_flavor"
PREFIX = "image_"
"""Prefix of what a server records of its image in its system metadata."""
_UNINHERITED = frozenset({"cache_in_nova", "bittorrent", "img_signature_hash_method", "img_signature",
                          "img_signature_key_type", "img_signature_certificate_uuid"})  # fmt: skip


def demand_active(image: Image) -> None:
    """Raises Invalid."""
    if image.status != "active":
        raise Invalid(reason=f"Image {image.id} is not active.")


def check_fit(flavor: Flavor, image: Image) -> None:
    """Raises Invalid where the flavor is too small for the image."""
    if flavor.memory_mib < image.min_ram_mib:
        raise Invalid(reason="Flavor's memory is too small for requested image.")
    if flavor.root_gib:
        available = flavor.root_gib * 1024**3
        if flavor.root_gib < image.min_disk_gib:
            raise Invalid(
                reason=f"The created instance's disk would be too small: flavor disk is smaller than the minimum "
                f"size specified in image metadata. Flavor disk is {available} bytes, minimum size is "
                f"{image.min_disk_gib * 1024**3} bytes."
            )
        if max(image.size_bytes, image.virtual_bytes or 0) > available:
            raise Invalid(
                reason=f"Flavor's disk is too small for requested image. Flavor disk is {available} bytes, "
                f"image is {max(image.size_bytes, image.virtual_bytes or 0)} bytes."
            )


def demand_disk_size(caller: Caller, flavor: Flavor) -> None:
    """Raises Forbidden where the local root disk would have whatever size the image has, which fills hosts, and the
    caller may not have that."""
    if not flavor.root_gib and not caller.may(ZERO_DISK_RULE):
        raise Forbidden(reason="Only volume-backed servers are allowed for flavors with zero disk.")


def demand_verifiable(certificates: Collection[str], *, volume_backed: bool) -> None:
    """Raises Invalid: hosts verify the images that they fetch, and volumes are made by the volume service."""
    if certificates and volume_backed:
        raise Invalid(reason="Image certificate validation is not supported when booting from volume.")


def check_volumes(devices: Iterable[BlockDevice], image: Image) -> None:
    """Raises Invalid where the volume to boot from is smaller than the image that describes the server allows."""
    for device in devices:
        if device.is_volume and device.is_root and (device.volume_size or image.min_disk_gib) < image.min_disk_gib:
            raise Invalid(
                reason=f"Volume is smaller than the minimum size specified in image metadata. Volume size is "
                f"{(device.volume_size or 0) * 1024**3} bytes, minimum size is {image.min_disk_gib * 1024**3} bytes."
            )


def remembered(flavor: Flavor, image: Image) -> dict[str, str]:
    """The properties of its image that a server keeps in its system metadata."""
    basics = {
        "image_min_ram": image.min_ram_mib,
        "image_min_disk": flavor.root_gib or image.min_disk_gib,
        "image_disk_format": image.disk_format,
        "image_container_format": image.container_format,
    }
    inherited = {PREFIX + name: value for name, value in image.properties.items() if name not in _UNINHERITED}
    return {**{name: str(value) for name, value in basics.items()}, **inherited}
