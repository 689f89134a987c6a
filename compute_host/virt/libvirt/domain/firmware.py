"""The start of a guest: machine type, BIOS or UEFI, a kernel or a disk."""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree.ElementTree import Element

from cell_service.model.hardware import Hardware
from compute_host.virt.libvirt.domain.values import Choices, Laid
from compute_host.virt.libvirt.domain.xml import add, yes_no

DEFAULT_COMMAND_LINE = "console=tty0 console=ttyS0"
ROOT_COMMAND_LINE = "root=/dev/vda"


def system(
    domain: Element, wanted: Hardware, laid: Laid, properties: Mapping[str, str], machine: str, *, secure: bool,
    ordered: bool,
) -> None:  # fmt: skip
    """The element `os`. libvirt chooses the firmware's file, and keeps the guest's variables in one of its own.
    `ordered`: disks say themselves in which order they are booted."""
    uefi = wanted.firmware == "uefi"
    made = add(domain, "os", **({"firmware": "efi"} if uefi else {}))
    add(made, "type", "hvm", arch="x86_64", machine=machine)
    if uefi:
        firmware = add(made, "firmware")
        for feature in ("secure-boot", "enrolled-keys"):
            add(firmware, "feature", enabled=yes_no(secure), name=feature)
        if secure:
            add(made, "loader", secure="yes")
    if laid.kernel is not None:
        add(made, "kernel", str(laid.kernel))
        if laid.ramdisk is not None:
            add(made, "initrd", str(laid.ramdisk))
        root = "" if laid.ramdisk is not None else f"{ROOT_COMMAND_LINE} "
        add(made, "cmdline", properties.get("os_command_line") or root + DEFAULT_COMMAND_LINE)
    elif not ordered:
        add(made, "boot", dev="hd")
    if wanted.boot_menu:
        add(made, "bootmenu", enable="yes")


def boots_securely(wanted: Hardware, choices: Choices, machine: str) -> bool:
    """Whether the firmware starts only what is signed: when it has to, or when the image likes it and the host can."""
    can = choices.secure_boot and wanted.firmware == "uefi" and "q35" in machine
    return wanted.secure_boot == "required" or (wanted.secure_boot == "optional" and can)
