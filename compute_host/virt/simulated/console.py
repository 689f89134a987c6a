"""The console log of a simulated guest: made from its record, so it costs nothing to keep."""

from __future__ import annotations

from compute_host.virt.simulated.state import Boot, Record

_KERNEL = (
    "Linux version 6.1.0-polycell (builder@polycell) #1 SMP PREEMPT_DYNAMIC",
    "Command line: root=LABEL=root ro console=tty1 console=ttyS0",
    "KERNEL supported cpus: Intel GenuineIntel, AMD AuthenticAMD",
    "x86/fpu: Supporting XSAVE feature 0x001: 'x87 floating point registers'",
    "Hypervisor detected: Simulated",
    "Memory: {memory_kib}K available",
    "smp: Brought up 1 node, {vcpus} CPU{plural}",
    "ACPI: bus type PCI registered",
    "virtio_blk virtio0: [vda] {sectors} 512-byte logical blocks",
    "EXT4-fs (vda1): mounted filesystem with ordered data mode",
    "random: crng init done",
)
_USERLAND = (
    "Starting system logger: OK",
    "Initializing random number generator: OK",
    "Starting network: OK",
    "Starting sshd: OK",
)
_ENDS = {"shutdown": "reboot: Power down", "reboot": "reboot: Restarting system", "crash": "Kernel panic - not syncing"}


def render(guest: Record) -> str:
    """The whole log: every boot of the guest, and how each ended."""
    lines: list[str] = []
    for number, boot in enumerate(guest.boots):
        lines += _boot(guest, boot)
        lines += [f"[{50 + place:5d}.000000] {remark}" for place, remark in enumerate(boot.remarks)]
        if number < len(guest.notes):
            lines.append(f"[{60 + number:5d}.000000] {_ENDS.get(guest.notes[number], guest.notes[number])}")
    return "\n".join(lines)


def _boot(guest: Record, boot: Boot) -> list[str]:
    words = {
        "memory_kib": guest.memory_mib * 1024,
        "vcpus": guest.vcpus,
        "plural": "" if guest.vcpus == 1 else "s",
        "sectors": guest.disk_gib * 2**21,
    }
    stamped = [f"[{number * 0.083117:12.6f}] {line.format(**words)}" for number, line in enumerate(_KERNEL)]
    ports = [f"eth{number}: {mac} up" for number, mac in enumerate(guest.macs)]
    return [
        f"Booting ({boot.how}) at {boot.at:%Y-%m-%d %H:%M:%S} UTC",
        *stamped,
        *_USERLAND,
        *ports,
        f"Welcome to {guest.hostname}",
        "",
        f"{guest.hostname} login: ",
    ]
