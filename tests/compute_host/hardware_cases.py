"""Hardware of guests as flavors and images describe it, and what libvirt's XML has for it: by name, extra specs, image
properties, and paths in the domain with the attributes (or the text) that are there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Expected = dict[str, "dict[str, str] | str | None"]
"""None: nothing is there."""


@dataclass(frozen=True, slots=True)
class Case:
    expected: Expected
    specs: dict[str, str] = field(default_factory=dict)
    properties: dict[str, str] = field(default_factory=dict)
    choices: dict[str, Any] = field(default_factory=dict)
    """Settings of the host, by fields of `Choices`."""
    needs: str = ""
    """What a host must have for such a guest that not every one has, if so."""


UEFI = {"hw_firmware_type": "uefi", "hw_machine_type": "q35"}
CASES = {
    "plain": Case(
        {
            "os/type": {"machine": "pc"},
            "os/bootmenu": None,
            "cpu/topology": {"sockets": "2", "cores": "1", "threads": "1"},
            "devices/rng/backend": "/dev/urandom",
            "devices/rng/rate": None,
            "devices/memballoon/stats": {"period": "10"},
            "devices/watchdog": None,
            "devices/video": None,
            "devices/input": None,
            "devices/sound": None,
            "devices/serial[2]": None,
            "cputune": None,
            "devices/disk/iotune": None,
            "devices/interface/bandwidth": None,
            "devices/interface/driver": None,
            "memoryBacking": None,
            "features/kvm": None,
            "features/pmu": None,
        }
    ),
    "machine": Case({"os/type": {"machine": "q35"}}, properties={"hw_machine_type": "q35"}),
    "machine-of-the-host": Case({"os/type": {"machine": "q35"}}, choices={"machine": "q35"}),
    "topology": Case(
        {"cpu/topology": {"sockets": "1", "cores": "2", "threads": "1"}}, {"hw:cpu_sockets": "1", "hw:cpu_cores": "2"}
    ),
    "most-sockets": Case({"cpu/topology": {"sockets": "1", "cores": "2"}}, {"hw:cpu_max_sockets": "1"}),
    "model": Case(
        {
            "cpu": {"mode": "custom", "match": "exact"},
            "cpu/model": "Nehalem",
            "cpu/feature[1]": {"name": "aes", "policy": "require"},
            "cpu/feature[2]": {"name": "vme", "policy": "disable"},
        },
        choices={"cpu_mode": "custom", "cpu_models": ("Nehalem", "Penryn"), "cpu_flags": ("+AES", "-vme")},
    ),
    "address-space": Case(
        {"cpu/maxphysaddr": {"mode": "emulate", "bits": "40"}},
        properties={"hw_maxphysaddr_mode": "emulate", "hw_maxphysaddr_bits": "40"},
        choices={"cpu_mode": "maximum"},
    ),
    "no-pmu": Case({"features/pmu": {"state": "off"}}, {"hw:pmu": "false"}),
    "hidden": Case({"features/kvm/hidden": {"state": "on"}}, {"hide_hypervisor_id": "true"}),
    "windows": Case(
        {
            "clock": {"offset": "localtime"},
            "features/hyperv/relaxed": {"state": "on"},
            "features/hyperv/vendor_id": {"state": "on"},
            "clock/timer[@name='hypervclock']": {"present": "yes"},
        },
        {"hw:hide_hypervisor_id": "yes"},
        {"os_type": "windows"},
        {"kvm": True},
        needs="KVM",
    ),
    "hpet": Case({"clock/timer[@name='hpet']": {"present": "yes"}}, properties={"hw_time_hpet": "true"}),
    "uefi": Case(
        {"os": {"firmware": "efi"}, "os/firmware/feature[@name='secure-boot']": {"enabled": "no"}}, properties=UEFI
    ),
    "secure-boot": Case(
        {"os/type": {"machine": "q35"}, "os/loader": {"secure": "yes"}, "features/smm": {"state": "on"}},
        {"os:secure_boot": "required"},
        {"hw_firmware_type": "uefi"},
    ),
    "secure-boot-if-it-can": Case(
        {"os/loader": {"secure": "yes"}, "features/smm": {"state": "on"}},
        properties={**UEFI, "os_secure_boot": "optional"},
        choices={"secure_boot": True},
    ),
    "secure-boot-that-it-cannot": Case(
        {"os/loader": None, "features/smm": None}, properties={**UEFI, "os_secure_boot": "optional"}
    ),
    "boot-menu": Case({"os/bootmenu": {"enable": "yes"}}, {"hw:boot_menu": "true"}),
    "rng-rate": Case(
        {"devices/rng/rate": {"bytes": "2048", "period": "500"}},
        {"hw_rng:rate_bytes": "2048", "hw_rng:rate_period": "500"},
    ),
    "no-rng": Case({"devices/rng": None}, {"hw_rng:allowed": "no"}, {"hw_rng_model": "virtio"}),
    "watchdog": Case(
        {"devices/watchdog": {"model": "i6300esb", "action": "pause"}},
        {"hw:watchdog_action": "reset"},
        {"hw_watchdog_action": "pause"},
    ),
    "no-watchdog": Case({"devices/watchdog": None}, {"hw:watchdog_action": "disabled"}),
    "serial-ports": Case(
        {
            "devices/serial[1]": {"type": "file"},
            "devices/serial[2]": {"type": "pty"},
            "devices/serial[2]/target": {"port": "1"},
            "devices/serial[5]/target": {"type": "pci-serial"},
            "devices/serial[6]": None,
        },
        {"hw:serial_port_count": "5"},
    ),
    "no-serial-port": Case(
        {"devices/serial[1]": {"type": "file"}, "devices/serial[2]": None}, {"hw:serial_port_count": "0"}
    ),
    "video": Case(
        {"devices/video/model": {"type": "vga", "vram": "32768"}},
        {"hw_video:ram_max_mb": "64"},
        {"hw_video_model": "vga", "hw_video_ram": "32"},
    ),
    **{
        f"video-{model}": Case({"devices/video/model": {"type": model}}, properties={"hw_video_model": model})
        for model in ("bochs", "cirrus", "none", "qxl", "virtio", "vmvga")
    },
    "video-ram-alone": Case(
        {"devices/video/model": {"type": "vga", "vram": "8192"}}, {"hw_video:ram_max_mb": "8"}, {"hw_video_ram": "8"}
    ),
    **{
        f"sound-{model}": Case({"devices/sound": {"model": model}}, {"hw:sound_model": model})
        for model in ("ac97", "es1370", "ich6", "ich9", "sb16", "usb")
    },
    "tablet": Case(
        {"devices/input[@type='tablet']": {"bus": "usb"}, "devices/controller[@model='none']": None},
        properties={"hw_pointer_model": "usbtablet"},
    ),
    "virtio-input": Case(
        {"devices/input[@type='tablet']": {"bus": "virtio"}, "devices/input[@type='keyboard']": {"bus": "virtio"}},
        properties={"hw_input_bus": "virtio"},
    ),
    **{
        f"usb-{model}": Case({"devices/controller[@type='usb']": {"model": model}}, {"hw:usb_model": model})
        for model in ("none", "nec-xhci", "qemu-xhci")
    },
    **{
        f"disk-{bus}": Case({"devices/disk/target": {"bus": bus}}, properties={"hw_disk_bus": bus})
        for bus in ("ide", "sata", "scsi", "usb", "virtio")
    },
    **{
        f"scsi-{model}": Case(
            {"devices/controller[@type='scsi']": {"model": model}},
            properties={"hw_disk_bus": "scsi", "hw_scsi_model": model},
        )
        for model in ("lsilogic", "lsisas1068", "lsisas1078", "virtio-scsi", "vmpvscsi")
    },
    **{
        f"card-{model}": Case({"devices/interface/model": {"type": model}}, properties={"hw_vif_model": model})
        for model in ("e1000", "e1000e", "ne2k_pci", "pcnet", "rtl8139", "virtio", "vmxnet3")
    },
    "queues": Case({"devices/interface/driver": {"queues": "2"}}, {"hw:vif_multiqueue_enabled": "true"}),
    "packed-ring": Case({"devices/interface/driver": {"packed": "on"}}, {"hw:virtio_packed_ring": "true"}),
    "discard-and-io": Case(
        {"devices/disk/driver": {"discard": "unmap", "io": "native", "cache": "none"}},
        choices={"discard": "unmap", "io": "native", "cache": "none"},
    ),
    "balloon-without-statistics": Case({"devices/memballoon/stats": None}, choices={"memory_stats_seconds": 0}),
    "rng-source": Case({"devices/rng/backend": "/dev/random"}, choices={"rng_source": "/dev/random"}),
    "file-backed": Case(
        {
            "memoryBacking/source": {"type": "file"},
            "memoryBacking/access": {"mode": "shared"},
            "memoryBacking/allocation": {"mode": "immediate"},
            "memoryBacking/discard": {},
        },
        choices={"file_backed_memory": True},
    ),
    "locked": Case(
        {"memoryBacking/locked": {}}, {"hw:locked_memory": "true", "hw:mem_page_size": "small"}, needs="pages to choose"
    ),
    "disk-limits": Case(
        {
            "devices/disk/iotune/read_bytes_sec": "1048576",
            "devices/disk/iotune/write_iops_sec": "50",
            "devices/disk/iotune/total_bytes_sec": None,
        },
        {"quota:disk_read_bytes_sec": "1048576", "quota:disk_write_iops_sec": "50"},
    ),
    "cpu-limits": Case(
        {"cputune/shares": "512", "cputune/period": "100000", "cputune/quota": "50000"},
        {"quota:cpu_shares": "512", "quota:cpu_period": "100000", "quota:cpu_quota": "50000"},
        needs="a control group of its own",
    ),
    "network-limits": Case(
        {
            "devices/interface/bandwidth/inbound": {"average": "1024", "peak": "2048", "burst": "512"},
            "devices/interface/bandwidth/outbound": {"average": "10"},
        },
        {
            "quota:vif_inbound_average": "1024",
            "quota:vif_inbound_peak": "2048",
            "quota:vif_inbound_burst": "512",
            "quota:vif_outbound_average": "10",
        },
        needs="queues for traffic",
    ),
    "tpm": Case(
        {"devices/tpm": {"model": "tpm-crb"}, "devices/tpm/backend": {"type": "emulator", "version": "2.0"}},
        {"hw:tpm_version": "2.0", "hw:tpm_model": "tpm-crb"},
        needs="swtpm",
    ),
}
