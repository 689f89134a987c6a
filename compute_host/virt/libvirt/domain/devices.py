"""The guest's other devices."""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree.ElementTree import Element

from oslo_utils.strutils import bool_from_string

from cell_service.model.hardware import Hardware
from compute_host.virt.libvirt.domain.consoles import first_port, screens
from compute_host.virt.libvirt.domain.values import Choices, Consoles, Laid, Listen
from compute_host.virt.libvirt.domain.xml import add

ISA_PORTS = 4
"""The serial ports that a PC has; further ones are PCI devices."""
_DEFAULT_VIDEO = "vga"
_KIB = 1024


def devices(
    parts: Element,
    wanted: Hardware,
    laid: Laid,
    properties: Mapping[str, str],
    choices: Choices,
    buses: set[str],
    consoles: Consoles,
) -> None:
    _usb(parts, wanted, buses)
    _serial(parts, wanted, laid, consoles.serial)
    if bool_from_string(properties.get("hw_qemu_guest_agent")):
        channel = add(parts, "channel", type="unix")
        add(channel, "source", mode="bind")
        add(channel, "target", type="virtio", name="org.qemu.guest_agent.0")
    _input(parts, wanted)
    _tpm(parts, wanted)
    if wanted.sound is not None:
        add(parts, "sound", model=wanted.sound)
    screens(parts, consoles)
    _video(parts, wanted, needed=consoles.has_screen)
    if wanted.watchdog is not None:
        add(parts, "watchdog", model="i6300esb", action=wanted.watchdog)
    _rng(parts, wanted, choices)
    balloon = add(parts, "memballoon", model="virtio")
    if choices.memory_stats_seconds:
        add(balloon, "stats", period=str(choices.memory_stats_seconds))


def _usb(parts: Element, wanted: Hardware, buses: set[str]) -> None:
    """A controller only where something is on it."""
    used = "usb" in buses or wanted.sound == "usb" or _tablet_bus(wanted) == "usb"
    if wanted.usb is not None and not (wanted.usb == "none" and used):
        add(parts, "controller", type="usb", model=wanted.usb)
    elif not used:
        add(parts, "controller", type="usb", model="none")


def _serial(parts: Element, wanted: Hardware, laid: Laid, console: Listen | None) -> None:
    """The first port has the console log, also for a guest that is to have none."""
    first_port(parts, laid.console, console)
    for number in range(1, wanted.serial_ports):
        port = add(parts, "serial", type="pty")
        if number < ISA_PORTS:
            add(port, "target", port=str(number))
        else:
            add(add(port, "target", type="pci-serial", port=str(number)), "model", name="pci-serial")


def _tablet_bus(wanted: Hardware) -> str | None:
    return wanted.input_bus or ("usb" if wanted.pointer == "usbtablet" else None)


def _input(parts: Element, wanted: Hardware) -> None:
    bus = _tablet_bus(wanted)
    if bus is not None:
        add(parts, "input", type="tablet", bus=bus)
    if wanted.input_bus is not None:
        add(parts, "input", type="keyboard", bus=wanted.input_bus)


def _tpm(parts: Element, wanted: Hardware) -> None:
    if wanted.tpm is not None:
        add(add(parts, "tpm", model=wanted.tpm.model), "backend", type="emulator", version=wanted.tpm.version)


def _video(parts: Element, wanted: Hardware, *, needed: bool) -> None:
    if wanted.video is None and not wanted.video_ram_mib and not needed:
        return
    model = add(add(parts, "video"), "model", type=wanted.video or _DEFAULT_VIDEO)
    if wanted.video_ram_mib:
        model.set("vram", str(wanted.video_ram_mib * _KIB))


def _rng(parts: Element, wanted: Hardware, choices: Choices) -> None:
    if wanted.rng is None:
        return
    made = add(parts, "rng", model="virtio")
    if wanted.rng.rate_bytes:
        rate = add(made, "rate", bytes=str(wanted.rng.rate_bytes))
        if wanted.rng.rate_period:
            rate.set("period", str(wanted.rng.rate_period))
    add(made, "backend", choices.rng_source, model="random")
