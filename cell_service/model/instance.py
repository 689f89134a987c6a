"""An instance as its cell knows it, and what belongs to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cell_service.model import block_device
from cell_service.model.block_device import BlockDevice
from cell_service.model.lifecycle import PowerState, State, Task, VmState
from cell_service.model.share import ShareMapping


@dataclass(frozen=True, slots=True)
class Flavor:
    """A flavor as it was when the instance was made. Sizes: MiB for memory and swap, GiB for disks."""

    flavorid: str
    name: str
    vcpus: int
    memory_mib: int
    root_gib: int
    ephemeral_gib: int = 0
    swap_mib: int = 0
    rxtx_factor: float = 1.0
    disabled: bool = False
    is_public: bool = True
    description: str | None = None
    extra_specs: dict[str, str] = field(default_factory=dict)

    def disk_gib(self) -> int:
        """Local disk that an image-booted instance takes on its host, whole GiB, swap rounded up."""
        return self.root_gib + self.ephemeral_gib + -(-self.swap_mib // 1024)


@dataclass(frozen=True, slots=True)
class FixedIp:
    address: str
    version: int
    subnet_id: str
    floating_ips: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Vif:
    """A port of the network service, plugged (or to be plugged) into an instance. `security_groups` are names; None:
    they were not looked up (by a process of an older release)."""

    port_id: str
    network_id: str
    network_name: str
    mac: str
    fixed_ips: tuple[FixedIp, ...] = ()
    mtu: int = 1500
    vif_type: str = ""
    vnic_type: str = "normal"
    details: dict[str, Any] = field(default_factory=dict)
    created_by_us: bool = True
    tag: str | None = None
    security_groups: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """Why an instance is in ERROR: `code` an HTTP status, `details` a traceback, or reasons that name hosts,
    for callers who may see hosts."""

    code: int
    message: str
    created_at: datetime
    details: str = ""


@dataclass(frozen=True, slots=True)
class NetworkRequest:
    """One entry of `networks` on create; all None means "the project's network" (auto allocation)."""

    network_id: str | None = None
    port_id: str | None = None
    fixed_ip: str | None = None
    tag: str | None = None


@dataclass(frozen=True, slots=True)
class InjectedFile:
    """A file to write into the guest; `contents` is base64."""

    path: str
    contents: str


NAME_KEPT = "instance_name"
"""The key in the system metadata of the name that the instance had in its first cell."""
MACHINE_TYPE = "image_hw_machine_type"
"""The key there of the machine type that the instance's guest was first made with."""


def row_name(row_id: int) -> str:
    """The name of the instance that this row was made for."""
    return f"instance-{row_id:08x}"


@dataclass(frozen=True, slots=True)
class Instance:
    """One row of a cell's `instances`, whole. `id` and `deleted_at` are None before it is stored / gone."""

    uuid: str
    project_id: str
    user_id: str
    display_name: str
    flavor: Flavor
    created_at: datetime
    display_description: str | None = None
    hostname: str = ""
    image_ref: str = ""
    kernel_id: str = ""
    ramdisk_id: str = ""
    key_name: str | None = None
    key_data: str | None = None
    user_data: str | None = None
    config_drive: bool = False
    availability_zone: str | None = None
    pinned_availability_zone: str | None = None
    reservation_id: str = ""
    launch_index: int = 0
    host: str | None = None
    node: str | None = None
    launched_on: str | None = None
    vm_state: VmState = VmState.BUILDING
    task_state: Task | None = Task.SCHEDULING
    power_state: PowerState = PowerState.NOSTATE
    progress: int = 0
    updated_at: datetime | None = None
    launched_at: datetime | None = None
    terminated_at: datetime | None = None
    deleted_at: datetime | None = None
    locked_by: str | None = None
    locked_reason: str | None = None
    access_ip_v4: str | None = None
    access_ip_v6: str | None = None
    auto_disk_config: bool = False
    root_device_name: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    system_metadata: dict[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    network_info: tuple[Vif, ...] = ()
    block_devices: tuple[BlockDevice, ...] = ()
    shares: tuple[ShareMapping, ...] = ()
    trusted_image_certificates: tuple[str, ...] = ()
    scheduler_hints: dict[str, Any] = field(default_factory=dict)
    fault: Fault | None = None
    id: int | None = None
    hidden: bool = False

    @property
    def state(self) -> State:
        return State(self.vm_state, self.task_state)

    @property
    def name(self) -> str:
        """The instance's name for administrators; it stays when the instance gets another row in another cell."""
        return self.system_metadata.get(NAME_KEPT) or row_name(self.id or 0)

    @property
    def guarding_groups(self) -> tuple[str, ...]:
        """Names of the security groups of its ports, each once; while it has no ports, those that were requested."""
        known = [vif.security_groups for vif in self.network_info if vif.security_groups is not None]
        return tuple(dict.fromkeys(name for names in known for name in names)) if known else self.security_groups

    @property
    def volume_backed(self) -> bool:
        """Whether its root disk is a volume."""
        return block_device.volume_backed(self.block_devices)

    @property
    def locked(self) -> bool:
        return self.locked_by is not None
