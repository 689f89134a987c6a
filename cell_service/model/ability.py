"""Abilities: things that some hypervisors can do with their guests, and others can't."""

from __future__ import annotations

from enum import StrEnum


class Ability(StrEnum):
    """Stored in reports of hosts, and sent between processes: never change a value."""

    SNAPSHOTS = "snapshots"
    PASSWORDS = "passwords"
    CRASH_DUMPS = "crash_dumps"
    RESCUE = "rescue"
    INTERFACES = "interfaces"
    VOLUMES = "volumes"
    VOLUME_SWAPS = "volume_swaps"
    SUSPENDED_PLUGS = "suspended_plugs"
    DRIVE_PLUGS = "drive_plugs"
    ENCRYPTED_VOLUMES = "encrypted_volumes"
    SHARES = "shares"
    MOVES = "moves"
    RESIZES = "resizes"
    RECEIVES = "receives"
    WATCHDOG = "watchdog"
    CPU_LIMITS = "cpu_limits"
    DISK_LIMITS = "disk_limits"
    NETWORK_LIMITS = "network_limits"

    @property
    def phrase(self) -> str:
        """Follows "cannot" in a sentence."""
        return _PHRASES[self]


_PHRASES = {
    Ability.SNAPSHOTS: "copy the disks of its guests",
    Ability.PASSWORDS: "change passwords in its guests",
    Ability.CRASH_DUMPS: "have its guests write crash dumps",
    Ability.RESCUE: "rescue its guests",
    Ability.INTERFACES: "attach interfaces to its guests",
    Ability.VOLUMES: "attach volumes to its guests",
    Ability.VOLUME_SWAPS: "swap the volumes of its guests",
    Ability.SUSPENDED_PLUGS: "attach volumes to guests that are suspended, nor detach them",
    Ability.DRIVE_PLUGS: "attach volumes on SATA or IDE to guests that run, nor detach them",
    Ability.ENCRYPTED_VOLUMES: "decrypt the volumes of its guests",
    Ability.SHARES: "give shares to its guests",
    Ability.MOVES: "move its guests",
    Ability.RESIZES: "resize its guests",
    Ability.RECEIVES: "take over guests of other hosts",
    Ability.WATCHDOG: "give its guests a watchdog",
    Ability.CPU_LIMITS: "limit the processor time of its guests",
    Ability.DISK_LIMITS: "limit the disk traffic of its guests",
    Ability.NETWORK_LIMITS: "limit the network traffic of its guests",
}
assert _PHRASES.keys() == set(Ability)
OF_HARDWARE = frozenset({
    Ability.WATCHDOG, Ability.CPU_LIMITS, Ability.DISK_LIMITS, Ability.NETWORK_LIMITS, Ability.ENCRYPTED_VOLUMES,
})  # fmt: skip
"""Abilities that depend on the host and not only on its driver, which reports them with its node."""
