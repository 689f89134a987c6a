"""The settings of a compute host, from its configuration file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from oslo_config import cfg

from cell_service.config import Defaults, option, read
from cell_service.consoles.config import ConsoleSettings, console_settings
from cell_service.errors import Invalid
from cell_service.metadata.config import DefaultOptions
from cell_service.peers.settings import ManilaSettings
from compute_host.image_settings import ImageCacheOptions, InspectionOptions, SignatureOptions
from compute_host.libvirt_settings import GuestSettings, LibvirtSettings


@dataclass(frozen=True, slots=True)
class ComputeOptions:
    """[DEFAULT], the options that only compute hosts need."""

    GROUP: ClassVar[str] = "DEFAULT"
    compute_driver: str = option(
        cfg.StrOpt(
            "compute_driver",
            default="libvirt.LibvirtDriver",
            help="simulated.SimulatedDriver or libvirt.LibvirtDriver.",
        )
    )
    my_shared_fs_storage_ip: str = option(
        cfg.StrOpt("my_shared_fs_storage_ip", default="", help="Address from which hosts mount shares; empty: my_ip.")
    )
    max_concurrent_builds: int = option(
        cfg.IntOpt("max_concurrent_builds", default=10, min=1, help="Guests that a host builds at a time.")
    )
    shutdown_timeout: int = option(
        cfg.IntOpt("shutdown_timeout", default=60, min=0, help="Seconds a guest is given to shut down by itself.")
    )
    vif_plugging_timeout: int = option(
        cfg.IntOpt("vif_plugging_timeout", default=300, min=0,
                   help="Seconds a new guest's ports may take to be plugged; 0: do not wait.")
    )  # fmt: skip
    vif_plugging_is_fatal: bool = option(
        cfg.BoolOpt("vif_plugging_is_fatal", default=True, help="Ports that are not plugged in time fail the build.")
    )
    sync_power_state_interval: int = option(
        cfg.IntOpt("sync_power_state_interval", default=600, help="Seconds between reports of all guests.")
    )
    update_resources_interval: int = option(
        cfg.IntOpt(
            "update_resources_interval",
            default=0,
            help="Seconds between full reports to placement and checks of allocations; 0: ten minutes.",
        )
    )
    instances_path: str | None = option(
        cfg.StrOpt("instances_path", default=None, help="Where guests' disks are; default $state_path/instances.")
    )
    resume_guests_state_on_host_boot: bool = option(
        cfg.BoolOpt("resume_guests_state_on_host_boot", default=False, help="Start guests that ran before.")
    )
    reserved_host_memory_mb: int = option(
        cfg.IntOpt("reserved_host_memory_mb", default=512, min=0, help="Memory, MiB, that guests do not get.")
    )
    reserved_host_cpus: int = option(
        cfg.IntOpt("reserved_host_cpus", default=0, min=0, help="Processors that guests do not get.")
    )
    reserved_host_disk_mb: int = option(
        cfg.IntOpt("reserved_host_disk_mb", default=0, min=0, help="Disk, MiB, that guests do not get.")
    )
    cpu_allocation_ratio: float | None = option(
        cfg.FloatOpt(
            "cpu_allocation_ratio",
            default=None,
            help="Virtual processors for each real one; unset: what placement has for the host.",
        )
    )
    ram_allocation_ratio: float | None = option(
        cfg.FloatOpt(
            "ram_allocation_ratio",
            default=None,
            help="Guests' memory by the host's; unset: what placement has for the host.",
        )
    )
    disk_allocation_ratio: float | None = option(
        cfg.FloatOpt(
            "disk_allocation_ratio",
            default=None,
            help="Guests' disks by the host's; unset: what placement has for the host.",
        )
    )
    initial_cpu_allocation_ratio: float = option(
        cfg.FloatOpt(
            "initial_cpu_allocation_ratio",
            default=4.0,
            help="The ratio for a host that is new to placement, where none is set.",
        )
    )
    initial_ram_allocation_ratio: float = option(
        cfg.FloatOpt(
            "initial_ram_allocation_ratio",
            default=1.0,
            help="The ratio for a host that is new to placement, where none is set.",
        )
    )
    initial_disk_allocation_ratio: float = option(
        cfg.FloatOpt(
            "initial_disk_allocation_ratio",
            default=1.0,
            help="The ratio for a host that is new to placement, where none is set.",
        )
    )


@dataclass(frozen=True, slots=True)
class SimulatedOptions:
    """[simulated]: the properties of a simulated host. Times in seconds, varied by `jitter` (a share of each)."""

    GROUP: ClassVar[str] = "simulated"
    vcpus: int = option(cfg.IntOpt("vcpus", default=64, min=1, help="Processors of a simulated host."))
    memory_mib: int = option(cfg.IntOpt("memory_mib", default=262144, min=1, help="Its memory, MiB."))
    disk_gib: int = option(cfg.IntOpt("disk_gib", default=4096, min=0, help="Its disk, GiB."))
    boot_seconds: float = option(
        cfg.FloatOpt("boot_seconds", default=0.1, min=0, help="Seconds that a guest takes to boot.")
    )
    host_boot_seconds: float = option(
        cfg.FloatOpt("host_boot_seconds", default=1.0, min=0, help="The start of the host itself.")
    )
    verb_seconds: float = option(
        cfg.FloatOpt("verb_seconds", default=0.02, min=0, help="Every other verb: stop, reboot, pause and so on.")
    )
    move_seconds: float = option(
        cfg.FloatOpt("move_seconds", default=0.5, min=0, help="Copying the disks of a guest that comes from elsewhere.")
    )
    live_seconds: float = option(
        cfg.FloatOpt("live_seconds", default=1.0, min=0, help="Sending a guest to another host while it runs.")
    )
    jitter: float = option(
        cfg.FloatOpt("jitter", default=0.2, min=0, max=1, help="By which part of themselves such times vary.")
    )
    watch_seconds: float = option(
        cfg.FloatOpt("watch_seconds", default=10.0, min=0.1, help="How often guests may change by themselves.")
    )
    faults_file: str | None = option(
        cfg.StrOpt("faults_file", default=None, help="Faults of all hosts, besides faults.json of each.")
    )


@dataclass(frozen=True, slots=True)
class Ratios:
    """The over-commit ratios of resources."""

    cpu: float = 4.0
    ram: float = 1.0
    disk: float = 1.0


@dataclass(frozen=True, slots=True)
class Reserved:
    """The resources that the host keeps for itself."""

    memory_mib: int = 512
    vcpus: int = 0
    disk_gib: int = 0


@dataclass(frozen=True, slots=True)
class HostSettings:
    """One compute host. Seconds throughout; `state` is its own directory, `image_cache` may be shared."""

    host: str
    state: Path
    image_cache: Path
    my_ip: str = "127.0.0.1"
    share_address: str = "127.0.0.1"
    """The address from which the host mounts shares."""
    share_seconds: float = 10.0
    """How long the host waits for access to a share."""
    compute_driver: str = "simulated.SimulatedDriver"
    max_concurrent_builds: int = 10
    max_concurrent_verbs: int = 8
    report_seconds: float = 30.0
    sync_power_seconds: float = 600.0
    update_resources_seconds: float = 600.0
    renew_seconds: float = 15.0
    shutdown_seconds: float = 60.0
    plugging_seconds: float = 0.0
    """0: builds do not wait for ports to be plugged."""
    plugging_is_fatal: bool = True
    cached_images: ImageCacheOptions = field(default_factory=ImageCacheOptions)
    vmdk_kinds: tuple[str, ...] = ("streamOptimized", "monolithicSparse")
    signatures: SignatureOptions = field(default_factory=SignatureOptions)
    force_config_drive: bool = False
    resume_guests: bool = False
    ratios: Ratios = field(default_factory=Ratios)
    reserved: Reserved = field(default_factory=Reserved)
    simulated: SimulatedOptions = field(default_factory=SimulatedOptions)
    libvirt: LibvirtSettings = field(default_factory=LibvirtSettings)
    guests: GuestSettings = field(default_factory=GuestSettings)
    consoles: ConsoleSettings = field(default_factory=ConsoleSettings)


def settings_from(conf: cfg.ConfigOpts) -> HostSettings:
    """Raises Invalid."""
    defaults, options = read(conf, Defaults), read(conf, ComputeOptions)
    state = Path(options.instances_path or Path(defaults.state_path) / "instances")
    if defaults.report_interval < 1:
        raise Invalid(reason="[DEFAULT] report_interval must be at least 1")
    return HostSettings(
        host=defaults.host,
        state=state,
        image_cache=state / "_base",
        my_ip=defaults.my_ip,
        share_address=options.my_shared_fs_storage_ip or defaults.my_ip,
        share_seconds=read(conf, ManilaSettings).share_apply_policy_timeout,
        compute_driver=options.compute_driver,
        max_concurrent_builds=options.max_concurrent_builds,
        report_seconds=defaults.report_interval,
        sync_power_seconds=options.sync_power_state_interval,
        update_resources_seconds=options.update_resources_interval or 600,
        shutdown_seconds=options.shutdown_timeout,
        plugging_seconds=options.vif_plugging_timeout,
        plugging_is_fatal=options.vif_plugging_is_fatal,
        force_config_drive=read(conf, DefaultOptions).force_config_drive,
        cached_images=read(conf, ImageCacheOptions),
        vmdk_kinds=read(conf, InspectionOptions).vmdk_allowed_types,
        signatures=read(conf, SignatureOptions),
        resume_guests=options.resume_guests_state_on_host_boot,
        ratios=Ratios(
            cpu=options.cpu_allocation_ratio or options.initial_cpu_allocation_ratio,
            ram=options.ram_allocation_ratio or options.initial_ram_allocation_ratio,
            disk=options.disk_allocation_ratio or options.initial_disk_allocation_ratio,
        ),
        reserved=Reserved(
            memory_mib=options.reserved_host_memory_mb,
            vcpus=options.reserved_host_cpus,
            disk_gib=-(-options.reserved_host_disk_mb // 1024),
        ),
        simulated=read(conf, SimulatedOptions),
        libvirt=read(conf, LibvirtSettings),
        guests=read(conf, GuestSettings),
        consoles=console_settings(conf),
    )


def own_address(host: str, address: str) -> str:
    """The address from which the host mounts shares: simulated hosts of one machine have an address each within its
    loopback network."""
    if not address.startswith("127."):
        return address
    a, b, c = hashlib.sha256(host.encode()).digest()[:3]
    return f"127.{a}.{b}.{c or 1}"


def for_host(settings: HostSettings, name: str) -> HostSettings:
    """The settings of one of several hosts that share their configuration: each has its own name and directory, and
    {host} in options of [libvirt] and of consoles is replaced by the name."""
    libvirt = replace(
        settings.libvirt,
        connection_uri=settings.libvirt.connection_uri.replace("{host}", name),
        name_prefix=settings.libvirt.name_prefix.replace("{host}", name),
    )
    address = own_address(name, settings.share_address)
    consoles = settings.consoles.for_host(name)
    state = settings.state / name
    return replace(settings, host=name, state=state, libvirt=libvirt, share_address=address, consoles=consoles)
