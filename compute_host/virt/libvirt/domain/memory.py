"""The guest's memory: files behind it, locks on it, its encryption."""

from __future__ import annotations

from xml.etree.ElementTree import Element

from cell_service.errors import DriverError
from cell_service.model.hardware import Hardware
from compute_host.virt.libvirt.domain.values import Choices
from compute_host.virt.libvirt.domain.xml import add, child

_SEV_POLICY = "0x0033"
"""No debugging, no sharing of keys with other guests, no sending to other platforms, no older firmware."""
_VIRTIO = ("disk", "interface", "rng", "memballoon", "controller", "video", "input")


def backing(domain: Element, wanted: Hardware, choices: Choices, *, shared: bool) -> None:
    """`shared`: other programs of the host map the memory."""
    if choices.file_backed_memory:
        made = child(domain, "memoryBacking")
        add(made, "source", type="file")
        add(made, "access", mode="shared")
        add(made, "allocation", mode="immediate")
        add(made, "discard")
    elif shared:
        made = child(domain, "memoryBacking")
        add(made, "source", type="memfd")
        add(made, "access", mode="shared")
    if wanted.locked_memory or wanted.memory_encryption:
        add(child(domain, "memoryBacking"), "locked")


def encryption(domain: Element, wanted: Hardware, choices: Choices) -> None:
    """Encrypt the memory, where that is wanted; devices then reach only what the guest shares with them. Raises
    DriverError."""
    if not wanted.memory_encryption:
        return
    if choices.sev is None:
        raise DriverError(reason="The host cannot encrypt its guests' memory.")
    made = add(domain, "launchSecurity", type="sev")
    add(made, "cbitpos", str(choices.sev.cbitpos))
    add(made, "reducedPhysBits", str(choices.sev.reduced_phys_bits))
    add(made, "policy", _SEV_POLICY)
    for device in domain.find("devices") or ():
        if device.tag in _VIRTIO and _is_virtio(device):
            child(device, "driver").set("iommu", "on")


def _is_virtio(device: Element) -> bool:
    target, model = device.find("target"), device.find("model")
    named = (
        device.get("model", ""),
        device.get("bus", ""),
        "" if target is None else target.get("bus", ""),
        "" if model is None else model.get("type", ""),
    )
    return any(name.startswith("virtio") for name in named)
