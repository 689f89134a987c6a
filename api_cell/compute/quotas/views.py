"""Which quotas a version shows: those of the network proxies end at 2.35, those of file injection at 2.56."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api_cell.edge.route import Version

_NETWORK = ("fixed_ips", "floating_ips", "security_groups", "security_group_rules")
_INJECTION = ("injected_files", "injected_file_content_bytes", "injected_file_path_bytes")
_GROUPS = ("server_groups", "server_group_members")
_ALWAYS = ("instances", "cores", "ram", "metadata_items", "key_pairs")
UNLIMITED = -1


def shown_in_sets(version: Version) -> tuple[str, ...]:
    """The names in a quota set, and in a body that changes one."""
    return _ALWAYS + _GROUPS + _old_names(version, (2, 36))


def shown_in_classes(version: Version) -> tuple[str, ...]:
    """The names in a quota class set."""
    return _ALWAYS + (_GROUPS if version >= (2, 50) else ()) + _old_names(version, (2, 50))


def _old_names(version: Version, without_networks: Version) -> tuple[str, ...]:
    networks = _NETWORK if version < without_networks else ()
    return networks + (_INJECTION if version < (2, 57) else ())


def limits_view(limits: Mapping[str, int], names: tuple[str, ...]) -> dict[str, Any]:
    """Limits by name; what we hold no quota for has no limit."""
    return {name: limits.get(name, UNLIMITED) for name in names}


def detail_view(limits: Mapping[str, int], usage: Mapping[str, int], names: tuple[str, ...]) -> dict[str, Any]:
    """Limits with what is in use. Nothing is ever reserved: what is accepted is in use."""
    return {name: {"limit": limits.get(name, UNLIMITED), "in_use": usage.get(name, 0), "reserved": 0} for name in names}
