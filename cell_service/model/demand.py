"""A flavor's demand of a host, by resource class: its sizes, and the extra specs that replace them or add to them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cell_service.errors import Invalid
from cell_service.model.instance import Flavor
from cell_service.model.numbers import is_whole

_RESOURCES = re.compile(r"^resources(?P<suffix>[a-zA-Z0-9_-]{0,64}):(?P<name>[A-Z0-9_]+)$")


def of_flavor(flavor: Flavor, *, volume_backed: bool) -> dict[str, int]:
    """Amounts by resource class over all request groups, none of them 0. Amounts that `check_amounts` refuses are left
    out.

    A root disk that is a volume takes nothing on the host.
    """
    cpu = "PCPU" if flavor.extra_specs.get("hw:cpu_policy") == "dedicated" else "VCPU"
    disk = flavor.disk_gib() - (flavor.root_gib if volume_backed else 0)
    amounts = {cpu: flavor.vcpus, "MEMORY_MB": flavor.memory_mib, "DISK_GB": disk}
    added: dict[str, int] = {}
    for _, _, name, value in _requested(flavor):
        if is_whole(value):
            added[name] = added.get(name, 0) + int(value)
    return {name: amount for name, amount in (amounts | added).items() if amount > 0}


def by_suffix(flavor: Flavor) -> dict[str, dict[str, int]]:
    """The amounts that the extra specs name, by the request group's suffix ("": the unnumbered one) and class."""
    found: dict[str, dict[str, int]] = {}
    for _, suffix, name, value in _requested(flavor):
        if is_whole(value):
            found.setdefault(suffix, {})[name] = int(value)
    return found


def check_amounts(flavor: Flavor) -> None:
    """Raises Invalid for an extra spec whose amount is no number of 64 bits."""
    for key, _, _, value in _requested(flavor):
        if not is_whole(value):
            raise Invalid(reason=f"Invalid amount in flavor extra spec {key}: {value}")


def _requested(flavor: Flavor) -> Iterator[tuple[str, str, str, str]]:
    """Each as (extra spec, suffix of the request group, resource class, amount)."""
    for key, value in flavor.extra_specs.items():
        if match := _RESOURCES.match(key):
            yield key, match["suffix"], match["name"], value
