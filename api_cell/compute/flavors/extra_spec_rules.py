"""Which extra specs of flavors are known from 2.86 on, and what values they take (Nova extra specs reference).

A name in a namespace that is not Nova's belongs to the operator and always fits; an unknown name in one of Nova's
is a mistake and is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache

import os_resource_classes
import os_traits

from cell_service.errors import Invalid
from cell_service.model.numbers import INT64

Check = Callable[[str], bool]

_TRUE_OR_FALSE = re.compile(r"(?i)true|false|1|0|on|off|yes|no|t|f|y|n")
_CPU_SET = r"\^?\d+((-\d+)?(,\^?\d+(-\d+)?)?)*"
_GROUP = r"(?:[a-zA-Z0-9_-]{1,64})?"
_RESOURCE = re.compile(rf"resources{_GROUP}:(?P<what>.+)")
_TRAIT = re.compile(rf"trait{_GROUP}:(?P<what>.+)")
_CUSTOM = re.compile(r"CUSTOM_[A-Z0-9_]+")
_CAPABILITY = re.compile(r"capabilities:(?P<what>\w+)(?P<part>(?::\w+)*)")
_NAMESPACES = re.compile(
    rf"(?:accel|aggregate_instance_extra_specs|capabilities|hw|hw_rng|hw_video|os|pci_passthrough|powervm|quota|vmware"
    rf"|resources{_GROUP}|trait{_GROUP}):.*"
)


def _anything(value: str) -> bool:
    return True


def _boolean(value: str) -> bool:
    return _TRUE_OR_FALSE.fullmatch(value.strip()) is not None


def _whole(low: int | None = None, high: int | None = None) -> Check:
    def fits(value: str) -> bool:
        try:
            number = int(value)
        except ValueError:
            return False
        return number in INT64 and (low is None or number >= low) and (high is None or number <= high)

    return fits


def _like(pattern: str) -> Check:
    compiled = re.compile(pattern)
    return lambda value: compiled.fullmatch(value) is not None


def _one_of(*words: str) -> Check:
    return lambda value: value in words


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_LEVEL = _one_of("custom", "high", "normal", "low")

_EXACT: dict[str, Check] = {
    "accel:device_profile": _anything,
    "group_policy": _one_of("isolate", "none"),
    "hide_hypervisor_id": _boolean,
    "hw:boot_menu": _boolean,
    "hw:cpu_dedicated_mask": _like(_CPU_SET),
    "hw:cpu_policy": _one_of("dedicated", "shared", "mixed"),
    "hw:cpu_realtime": _boolean,
    "hw:cpu_realtime_mask": _like(_CPU_SET),
    "hw:cpu_thread_policy": _one_of("prefer", "isolate", "require"),
    "hw:emulator_threads_policy": _one_of("isolate", "share"),
    "hw:ephemeral_encryption": _boolean,
    "hw:ephemeral_encryption_format": _one_of("plain", "luks", "luksv2"),
    "hw:hide_hypervisor_id": _boolean,
    "hw:locked_memory": _boolean,
    "hw:mem_encryption": _boolean,
    "hw:mem_encryption_model": _one_of("amd-sev", "amd-sev-es", "amd-sev-snp"),
    "hw:mem_page_size": _like(r"(large|small|any|\d+([kKMGT]i?)?(b|bit|B)?)"),
    "hw:numa_nodes": _whole(1),
    "hw:pci_numa_affinity_policy": _one_of("required", "preferred", "legacy", "socket"),
    "hw:pmem": _like(r"([a-zA-Z0-9_]+(,)?)+"),
    "hw:pmu": _boolean,
    "hw:redirected_usb_ports": _whole(0, 15),
    "hw:serial_port_count": _whole(0),
    "hw:sound_model": _one_of("sb16", "es1370", "pcspk", "ac97", "ich6", "ich9", "usb", "virtio"),
    "hw:tpm_model": _one_of("tpm-tis", "tpm-crb"),
    "hw:tpm_secret_security": _one_of("user", "host", "deployment"),
    "hw:tpm_version": _one_of("1.2", "2.0"),
    "hw:usb_model": _one_of("none", "nec-xhci", "qemu-xhci"),
    "hw:vif_multiqueue_enabled": _boolean,
    "hw:viommu_model": _one_of("intel", "smmuv3", "virtio", "auto"),
    "hw:virtio_packed_ring": _boolean,
    "hw:watchdog_action": _one_of("none", "pause", "poweroff", "reset", "disabled"),
    "hw_rng:allowed": _boolean,
    "hw_rng:rate_bytes": _whole(0),
    "hw_rng:rate_period": _whole(0),
    "hw_video:ram_max_mb": _whole(0),
    "os:secure_boot": _one_of("disabled", "required"),
    "pci_passthrough:alias": _like(r"[^:]+:\d+(?:\s*,\s*[^:]+:\d+)*"),
    "vmware:hw_version": _anything,
    "vmware:storage_policy": _anything,
    **{f"hw:cpu_{limit}{part}": _whole(1) for limit in ("", "max_") for part in ("sockets", "cores", "threads")},
    **{f"quota:{of}_limit": _whole(0) for of in ("cpu", "memory", "disk_io", "vif")},
    **{f"quota:{of}_reservation": _whole() for of in ("cpu", "memory", "disk_io", "vif")},
    **{f"quota:{of}_shares_level": _LEVEL for of in ("cpu", "memory", "disk_io", "vif")},
    **{f"quota:{of}_shares_share": _whole(0) for of in ("cpu", "memory", "disk_io", "vif")},
    "quota:cpu_shares": _whole(0),
    "quota:cpu_period": _whole(0),
    "quota:cpu_quota": _whole(),
    **{f"quota:disk_{of}_{by}_sec": _whole(0) for of in ("read", "write", "total") for by in ("bytes", "iops")},
    **{f"quota:vif_{way}_{of}": _whole(0) for way in ("inbound", "outbound") for of in ("average", "peak", "burst")},
}

_PATTERNS: tuple[tuple[re.Pattern[str], Check], ...] = (
    (re.compile(r"hw:numa_cpus\.\d+"), _like(_CPU_SET)),
    (re.compile(r"hw:numa_mem\.\d+"), _whole(1)),
    (re.compile(r"aggregate_instance_extra_specs:.+"), _anything),
)

_CAPABILITIES = _words(
    "id uuid service_id host vcpus memory_mb local_gb vcpus_used memory_mb_used local_gb_used hypervisor_type "
    "hypervisor_version hypervisor_hostname free_ram_mb free_disk_gb current_workload running_vms "
    "disk_available_least host_ip mapped cpu_allocation_ratio ram_allocation_ratio disk_allocation_ratio "
    "total_usable_ram_mb total_usable_disk_gb disk_mb_used free_disk_mb vcpus_total num_instances num_io_ops "
    "failed_builds aggregates cell_uuid updated"
)
_CAPABILITIES_WITH_PARTS = _words(
    "cpu_info metrics stats numa_topology supported_hv_specs pci_device_pools nodename pci_stats supported_instances "
    "limits instances"
)


def check(specs: Mapping[str, str]) -> None:
    """Raises Invalid for the first extra spec that is unknown in its namespace or has a wrong value."""
    for name, value in specs.items():
        fits = _check_for(name)
        if fits is None:
            if _NAMESPACES.fullmatch(name):
                raise Invalid(reason=f"Extra spec '{name}' is not a known one.")
        elif not fits(value):
            raise Invalid(reason=f"The value '{value}' does not fit the extra spec '{name}'.")


def _check_for(name: str) -> Check | None:
    exact = _EXACT.get(name)
    if exact is not None:
        return exact
    for pattern, fits in _PATTERNS:
        if pattern.fullmatch(name):
            return fits
    resource = _RESOURCE.fullmatch(name)
    if resource and (resource["what"] in os_resource_classes.STANDARDS or _CUSTOM.fullmatch(resource["what"])):
        return _whole()
    trait = _TRAIT.fullmatch(name)
    if trait and (trait["what"] in _standard_traits() or _CUSTOM.fullmatch(trait["what"])):
        return _one_of("required", "forbidden")
    capability = _CAPABILITY.fullmatch(name)
    if capability and (
        capability["what"] in _CAPABILITIES_WITH_PARTS
        or (capability["what"] in _CAPABILITIES and not capability["part"])
    ):
        return _anything
    return None


@cache
def _standard_traits() -> frozenset[str]:
    return frozenset(os_traits.get_traits())
