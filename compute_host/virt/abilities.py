"""The abilities of a driver, by the protocols that it implements, and those that its nodes report."""

from __future__ import annotations

from dataclasses import replace

from cell_service.model.ability import OF_HARDWARE, Ability
from cell_service.model.host import NodeReport
from compute_host.virt.driver import (
    Attachable,
    CrashDumps,
    DrivePlugging,
    Driver,
    Interfaces,
    Mountable,
    Movable,
    Passwords,
    Receiving,
    Rescuable,
    Resizable,
    Snapshots,
    SuspendedPlugging,
    Swapping,
)

_PROTOCOLS: dict[Ability, type] = {
    Ability.SNAPSHOTS: Snapshots,
    Ability.PASSWORDS: Passwords,
    Ability.CRASH_DUMPS: CrashDumps,
    Ability.RESCUE: Rescuable,
    Ability.INTERFACES: Interfaces,
    Ability.VOLUMES: Attachable,
    Ability.VOLUME_SWAPS: Swapping,
    Ability.SUSPENDED_PLUGS: SuspendedPlugging,
    Ability.DRIVE_PLUGS: DrivePlugging,
    Ability.SHARES: Mountable,
    Ability.MOVES: Movable,
    Ability.RESIZES: Resizable,
    Ability.RECEIVES: Receiving,
}
assert _PROTOCOLS.keys() | OF_HARDWARE == set(Ability)


def abilities_of(driver: Driver) -> tuple[str, ...]:
    """The values of the driver's abilities, in the order of their declaration."""
    return tuple(ability.value for ability, protocol in _PROTOCOLS.items() if isinstance(driver, protocol))


def nodes_of(driver: Driver) -> tuple[NodeReport, ...]:
    """The driver's nodes, with its abilities in their reports. Raises DriverError."""
    of_driver = abilities_of(driver)
    return tuple(replace(node, abilities=_ordered({*of_driver, *(node.abilities or ())})) for node in driver.nodes())


def _ordered(values: set[str]) -> tuple[str, ...]:
    return tuple(ability.value for ability in Ability if ability.value in values)
