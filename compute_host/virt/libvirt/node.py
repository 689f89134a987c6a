"""The properties and resources of a host with libvirt."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4
from xml.etree import ElementTree

import libvirt

from cell_service.errors import DriverError, Invalid
from cell_service.model.host import NodeReport
from compute_host.config import HostSettings
from compute_host.virt import uptime
from compute_host.virt.driver import GIB
from compute_host.virt.libvirt import traits
from compute_host.virt.libvirt.domain import Sev

UUID_FILE = "node_uuid"
_HIDDEN_TYPES = {"xen", "bhyve", "vz"}


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The capabilities that libvirt reports of its host; they do not change while libvirtd runs."""

    cpu_info: dict[str, Any]
    supported: tuple[tuple[str, str, str], ...]
    traits: tuple[str, ...]
    version: int
    sev: Sev | None = None
    spice: bool = False
    """Whether guests can have SPICE consoles."""

    @property
    def secure_boot(self) -> bool:
        return "COMPUTE_SECURITY_UEFI_SECURE_BOOT" in self.traits

    @property
    def offers_kvm(self) -> bool:
        return any(kind == "kvm" and arch == "x86_64" for arch, kind, _mode in self.supported)


@dataclass(frozen=True, slots=True)
class Use:
    """The resources of the host's guests, running or not."""

    vcpus: int
    memory_mib: int
    disk_bytes: int
    running: int

    def without(self, other: Use) -> Use:
        return Use(
            self.vcpus - other.vcpus,
            self.memory_mib - other.memory_mib,
            self.disk_bytes - other.disk_bytes,
            self.running - other.running,
        )


def read(connection: Any, *, kvm: bool | None = None) -> Capabilities:
    """The capabilities of the connection's host. `kvm` False: libvirt offers KVM, but it does not work."""
    tree = ElementTree.fromstring(connection.getCapabilities())
    features = _features(connection, tree)
    topology = tree.find("host/cpu/topology")
    info = {
        "arch": tree.findtext("host/cpu/arch", ""),
        "model": tree.findtext("host/cpu/model", ""),
        "vendor": tree.findtext("host/cpu/vendor", ""),
        "topology": {
            "cells": len(tree.findall("host/topology/cells/cell")) or 1,
            **{key: int(topology.get(key, "1")) for key in ("sockets", "cores", "threads") if topology is not None},
        },
        "features": features,
    }
    supported = {
        (arch.get("name", ""), each.get("type", ""), guest.findtext("os_type", "hvm"))
        for guest in tree.findall("guest")
        for arch in guest.findall("arch")
        for each in arch.findall("domain")
        if each.get("type") not in _HIDDEN_TYPES and not (kvm is False and each.get("type") == "kvm")
    }
    domains = traits.capabilities(connection, kvm=bool(kvm))
    found = traits.of_host(domains, features, kvm=bool(kvm))
    sev, spice = traits.sev_of(domains), traits.knows_spice(domains)
    return Capabilities(info, tuple(sorted(supported)), found, connection.getVersion(), sev, spice)


def node_uuid(directory: Path) -> str:
    """The uuid of the host's node: it is made once, stored in the host's directory, and never changes."""
    path = directory / UUID_FILE
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            part = directory / f"{UUID_FILE}.{uuid4().hex}"
            part.write_text(f"{uuid4()}\n", encoding="ascii")
            try:
                os.link(part, path)
            except FileExistsError:
                pass
            finally:
                part.unlink()
        return str(UUID(path.read_text(encoding="ascii").strip()))
    except (OSError, ValueError) as error:
        raise DriverError(reason=f"the node's uuid cannot be read from {path.name}: {error}") from error


def check_memory(settings: HostSettings) -> None:
    """Raises Invalid when guests' memory in files would be promised twice, or all of it be reserved."""
    backed = settings.libvirt.file_backed_memory
    if not backed:
        return
    if settings.ratios.ram != 1.0:
        raise Invalid(reason="[libvirt] file_backed_memory needs [DEFAULT] ram_allocation_ratio = 1.0.")
    if settings.reserved.memory_mib >= backed:
        raise Invalid(reason="[DEFAULT] reserved_host_memory_mb takes all of [libvirt] file_backed_memory.")


def memory_mib(settings: HostSettings, host: list[Any]) -> int:
    """The memory for guests: the host's, or that of the files behind it."""
    return settings.libvirt.file_backed_memory or int(host[1])


def report(
    settings: HostSettings,
    uuid: str,
    known: Capabilities,
    host: list[Any],
    use: Use,
    *,
    kvm: bool,
    abilities: tuple[str, ...] | None = None,
) -> NodeReport:
    """The host's only node. `host` is libvirt's node info: model, MiB, CPUs and so on. `abilities`: those of its
    hardware."""
    backing = {"COMPUTE_MEM_BACKING_FILE"} if settings.libvirt.file_backed_memory else set()
    reserved, ratios = settings.reserved, settings.ratios
    disk = shutil.disk_usage(settings.state)
    return NodeReport(
        node=settings.host,
        uuid=uuid,
        hypervisor_type="KVM" if kvm else "QEMU",
        hypervisor_version=known.version,
        host_ip=settings.my_ip,
        vcpus=int(host[2]),
        memory_mib=memory_mib(settings, host),
        local_gib=disk.total // GIB,
        vcpus_used=use.vcpus,
        memory_mib_used=use.memory_mib + reserved.memory_mib,
        local_gib_used=-(-use.disk_bytes // GIB),
        running_vms=use.running,
        disk_available_least_gib=disk.free // GIB,
        cpu_info=known.cpu_info,
        supported_instances=known.supported,
        traits=tuple(sorted({*known.traits, *backing})),
        reserved_memory_mib=reserved.memory_mib,
        reserved_vcpus=reserved.vcpus,
        reserved_disk_gib=reserved.disk_gib,
        cpu_allocation_ratio=ratios.cpu,
        ram_allocation_ratio=ratios.ram,
        disk_allocation_ratio=ratios.disk,
        uptime=uptime.reported(datetime.now(UTC)),
        abilities=abilities,
    )


def _features(connection: Any, tree: ElementTree.Element) -> list[str]:
    """All features of the host's processor: those of its model, and additional ones."""
    cpu = tree.find("host/cpu")
    if cpu is None:
        return []
    try:
        text = connection.baselineCPU(
            [ElementTree.tostring(cpu, encoding="unicode")], libvirt.VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES
        )
        cpu = ElementTree.fromstring(text)
    except libvirt.libvirtError:  # a model that libvirt does not know
        pass
    wanted = (each for each in cpu.findall("feature") if each.get("policy") != "disable")
    return sorted({each.get("name", "") for each in wanted})
