"""The settings of a host with libvirt, from its configuration file. This module does not import libvirt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from oslo_config import cfg

from cell_service.config import option


@dataclass(frozen=True, slots=True)
class LibvirtSettings:
    """[libvirt]. The names are nova's, but for `name_prefix` and `user_networking`."""

    GROUP: ClassVar[str] = "libvirt"
    connection_uri: str = option(cfg.StrOpt("connection_uri", default="", help="Default: qemu:///system."))
    virt_type: str = option(
        cfg.StrOpt("virt_type", default="auto", choices=["auto", "kvm", "qemu"], help="auto: kvm where it is proven.")
    )
    cpu_mode: str | None = option(
        cfg.StrOpt(
            "cpu_mode",
            default=None,
            choices=["host-model", "host-passthrough", "custom", "none", "maximum"],
            help="Default: host-model with kvm, none with qemu.",
        )
    )
    cpu_models: tuple[str, ...] = option(
        cfg.ListOpt(
            "cpu_models",
            default=[],
            help="Models of guests' processors with cpu_mode = custom, the first that the host has.",
        )
    )
    cpu_model_extra_flags: tuple[str, ...] = option(
        cfg.ListOpt(
            "cpu_model_extra_flags",
            default=[],
            help="Features of guests' processors besides those of their model; -feature: without it. "
            "Not with cpu_mode = none.",
        )
    )
    hw_machine_type: tuple[str, ...] = option(
        cfg.ListOpt("hw_machine_type", default=[], help="arch=machine; of images that don't say (x86_64=pc).")
    )
    images_type: str = option(
        cfg.StrOpt(
            "images_type",
            default="default",
            choices=["default", "qcow2", "raw", "flat"],
            help="default: qcow2, or with use_cow_images = false raw (flat is the same).",
        )
    )
    disk_cachemodes: tuple[str, ...] = option(
        cfg.ListOpt("disk_cachemodes", default=[], help="file=none, writeback, writethrough, directsync or unsafe.")
    )
    hw_disk_discard: str | None = option(
        cfg.StrOpt(
            "hw_disk_discard",
            default=None,
            choices=["ignore", "unmap"],
            help="What a guest's discard does to its disk.",
        )
    )
    file_backed_memory: int = option(
        cfg.IntOpt(
            "file_backed_memory",
            default=0,
            min=0,
            help="MiB of files behind guests' memory, in libvirt's memory_backing_dir; 0: memory of the host. "
            "Needs ram_allocation_ratio = 1.0.",
        )
    )
    mem_stats_period_seconds: int = option(
        cfg.IntOpt(
            "mem_stats_period_seconds", default=10, min=0, help="Interval of guests' memory statistics; 0: none."
        )
    )
    rng_dev_path: str = option(
        cfg.StrOpt("rng_dev_path", default="/dev/urandom", help="Source of guests' random number devices.")
    )
    wait_soft_reboot_seconds: int = option(
        cfg.IntOpt(
            "wait_soft_reboot_seconds",
            default=120,
            min=0,
            help="Seconds that a guest has to shut down by itself in a soft reboot; then it is reset.",
        )
    )
    device_detach_attempts: int = option(
        cfg.IntOpt(
            "device_detach_attempts", default=8, min=1, help="Times that a guest is to release a volume; then it stays."
        )
    )
    device_detach_timeout: int = option(
        cfg.IntOpt("device_detach_timeout", default=20, min=1, help="Seconds that a guest has each time.")
    )
    nbd_reconnect_seconds: int = option(
        cfg.IntOpt(
            "nbd_reconnect_seconds",
            default=60,
            min=0,
            help="Seconds that requests of guests wait for the NBD server of a volume when it went away; then they "
            "fail.",
        )
    )
    volume_use_multipath: bool = option(
        cfg.BoolOpt("volume_use_multipath", default=False, help="Volumes are connected over all their paths.")
    )
    num_volume_scan_tries: int = option(
        cfg.IntOpt("num_volume_scan_tries", default=5, min=1, help="Scans for the device of a connected volume.")
    )
    volume_root_helper: str = option(
        cfg.StrOpt(
            "volume_root_helper",
            default="",
            help="Begins the commands of os-brick that need root's rights (sudo -n); empty: the agent is root.",
        )
    )
    num_pcie_ports: int = option(cfg.IntOpt("num_pcie_ports", default=0, min=0, max=28, help="0: 8 spare ones."))
    name_prefix: str = option(
        cfg.StrOpt("name_prefix", default="", help="Begins the names of domains; for hosts that share a libvirtd.")
    )
    user_networking: bool = option(
        cfg.BoolOpt("user_networking", default=False, help="QEMU's own network; without rights to make taps.")
    )


@dataclass(frozen=True, slots=True)
class GuestSettings:
    """[DEFAULT], the options that only real guests need."""

    GROUP: ClassVar[str] = "DEFAULT"
    config_drive_format: str = option(
        cfg.StrOpt(
            "config_drive_format", default="iso9660", choices=["iso9660", "vfat"], help="File system of config drives."
        )
    )
    mkisofs_cmd: str = option(
        cfg.StrOpt("mkisofs_cmd", default="genisoimage", help="Program that makes ISO 9660 images.")
    )
    force_raw_images: bool = option(
        cfg.BoolOpt("force_raw_images", default=False, help="Guests start from images turned to raw.")
    )
    use_cow_images: bool = option(
        cfg.BoolOpt(
            "use_cow_images",
            default=True,
            help="With [libvirt] images_type = default: root disks are backed by their images, not copies of them.",
        )
    )
    preallocate_images: str = option(
        cfg.StrOpt(
            "preallocate_images",
            default="none",
            choices=["none", "space"],
            help="space: a guest's disks get all their space on the host when they are made.",
        )
    )
    default_ephemeral_format: str | None = option(
        cfg.StrOpt("default_ephemeral_format", default=None, help="File system of ephemeral disks; unset: ext4.")
    )
