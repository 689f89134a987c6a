"""A guest's disks, from its flavor and image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cell_service.model.instance import Instance
from cell_service.peers.image import Image
from compute_host.virt.driver import GIB, Disk

MIB = 2**20


def blank_disks(instance: Instance) -> tuple[Disk, ...]:
    """The guest's local disks without images: for a guest that exists, or has no image. The root disk comes first; its
    size is 0 where a volume is in its place."""
    flavor = instance.flavor
    disks = [Disk("root", 0 if instance.volume_backed else flavor.root_gib * GIB)]
    blank = [one for one in instance.block_devices if one.source_type == "blank" and not one.is_volume]
    ephemeral = [one.volume_size or flavor.ephemeral_gib for one in blank if not one.is_swap]
    disks += [Disk("ephemeral", size * GIB) for size in ephemeral or [flavor.ephemeral_gib] if size]
    swap = next((one.volume_size for one in blank if one.is_swap and one.volume_size), flavor.swap_mib)
    if swap:
        disks.append(Disk("swap", swap * MIB))
    return tuple(disks)


def with_image(instance: Instance, image: Image, path: Path) -> tuple[Disk, ...]:
    """The guest's disks, the root disk with the content of `path`; a root disk of 0 GiB is as large as the image,
    in whole GiB."""
    root, *others = blank_disks(instance)
    virtual = image.virtual_bytes or 0
    size = root.size_bytes or -(-max(virtual, image.size_bytes) // GIB) * GIB
    begun = replace(root, size_bytes=size, image=path, image_format=image.disk_format, image_virtual_bytes=virtual)
    return (begun, *others)
