"""The guest's processor, its features and its clocks."""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree.ElementTree import Element

from oslo_utils.strutils import bool_from_string

from cell_service.model.hardware import Hardware
from compute_host.virt.libvirt.domain.values import Choices
from compute_host.virt.libvirt.domain.xml import add, on_off, yes_no

TCG_CACHE_MIB = 32
_VENDOR = "1234567890ab"
"""Any one but Microsoft's, as which Hyper-V is known to a guest."""


def features(
    domain: Element, wanted: Hardware, properties: Mapping[str, str], choices: Choices, *, secure: bool
) -> None:
    """`secure`: the firmware's variables are kept from the guest's kernel."""
    made = add(domain, "features")
    add(made, "acpi")
    add(made, "apic")
    if secure:
        add(made, "smm", state="on")
    windows = properties.get("os_type") == "windows"
    if windows and choices.kvm:
        _hyperv(made, hidden=wanted.hides_hypervisor)
    if wanted.hides_hypervisor:
        add(add(made, "kvm"), "hidden", state="on")
    if wanted.pmu is not None:
        add(made, "pmu", state=on_off(wanted.pmu))
    if not choices.kvm:  # else QEMU takes hundreds of MiB a guest for code that it translated
        add(add(made, "tcg"), "tb-cache", str(TCG_CACHE_MIB), unit="MiB")


def _hyperv(features: Element, *, hidden: bool) -> None:
    """Add the features that make Windows fast on KVM (Nova, libvirt driver)."""
    made = add(features, "hyperv")
    for name in ("relaxed", "vapic"):
        add(made, name, state="on")
    add(made, "spinlocks", state="on", retries="8191")
    if hidden:
        add(made, "vendor_id", state="on", value=_VENDOR)


def cpu(domain: Element, wanted: Hardware, choices: Choices) -> None:
    mode = choices.cpu_mode
    made = add(domain, "cpu") if mode == "none" else add(domain, "cpu", mode=mode)
    if mode == "custom" and choices.cpu_models:
        made.set("match", "exact")
        add(made, "model", choices.cpu_models[0], fallback="allow")
    topology = wanted.topology
    add(made, "topology", sockets=str(topology.sockets), cores=str(topology.cores), threads=str(topology.threads))
    if mode == "none":
        return  # no model to which features could be added
    if wanted.address_space is not None:
        space = add(made, "maxphysaddr", mode=wanted.address_space.mode)
        if wanted.address_space.bits is not None:
            space.set("bits", str(wanted.address_space.bits))
    for flag in choices.cpu_flags:
        policy = "disable" if flag.startswith("-") else "require"
        add(made, "feature", policy=policy, name=flag.lstrip("+-").lower())


def clock(domain: Element, properties: Mapping[str, str], choices: Choices) -> None:
    windows = properties.get("os_type") == "windows"
    made = add(domain, "clock", offset="localtime" if windows else "utc")
    if choices.kvm:
        add(made, "timer", name="pit", tickpolicy="delay")
        add(made, "timer", name="rtc", tickpolicy="catchup")
        if windows:
            add(made, "timer", name="hypervclock", present="yes")
    hpet = bool_from_string(properties.get("hw_time_hpet"))
    add(made, "timer", name="hpet", present=yes_no(hpet))
