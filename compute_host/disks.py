"""Which disks a guest has, by its flavor and image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cell_service.model.instance import Instance
from cell_service.peers.image import Image
from compute_host.virt.driver import GIB, Disk

MIB = 2**20


def blank_disks(instance: Instance) -> tuple[Disk, ...]:
    """The guest's disks without what they start from: for a guest that exists, or has no image."""
    flavor = instance.flavor
    disks = [Disk("root", flavor.root_gib * GIB)]
    if flavor.ephemeral_gib:
        disks.append(Disk("ephemeral", flavor.ephemeral_gib * GIB))
    if flavor.swap_mib:
        disks.append(Disk("swap", flavor.swap_mib * MIB))
    return tuple(disks)


def with_image(instance: Instance, image: Image, path: Path) -> tuple[Disk, ...]:
    """The guest's disks, the root disk begun from `path`; a root disk of 0 GiB is as large as the image,
    in whole GiB."""
    root, *others = blank_disks(instance)
    virtual = image.virtual_bytes or 0
    size = root.size_bytes or -(-max(virtual, image.size_bytes) // GIB) * GIB
    begun = replace(root, size_bytes=size, image=path, image_format=image.disk_format, image_virtual_bytes=virtual)
    return (begun, *others)
