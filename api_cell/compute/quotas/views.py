"""Which quotas a version shows: those of the network proxies end at 2.35, those of file injection at 2.56."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api_cell.config import OF_THE_NETWORK
from api_cell.edge.route import Version
from api_cell.edge.versioned import BEGINNING, END, Field, values_at

UNLIMITED = -1


def _named(names: str, *, since: Version = BEGINNING, until: Version = END) -> tuple[Field[None], ...]:
    return tuple(Field(name, None, since, until) for name in names.split())


_ALWAYS = _named("instances cores ram metadata_items key_pairs")
_NETWORK = " ".join(OF_THE_NETWORK)
_GROUPS = "server_groups server_group_members"
_INJECTION = _named("injected_files injected_file_content_bytes injected_file_path_bytes", until=(2, 56))
IN_SETS = (*_ALWAYS, *_named(_GROUPS), *_named(_NETWORK, until=(2, 35)), *_INJECTION)
IN_CLASSES = (*_ALWAYS, *_named(_GROUPS, since=(2, 50)), *_named(_NETWORK, until=(2, 49)), *_INJECTION)


def shown_in_sets(version: Version) -> tuple[str, ...]:
    """The names in a quota set, and in a body that changes one."""
    return tuple(values_at(IN_SETS, version))


def shown_in_classes(version: Version) -> tuple[str, ...]:
    """The names in a quota class set."""
    return tuple(values_at(IN_CLASSES, version))


def limits_view(limits: Mapping[str, int], names: tuple[str, ...]) -> dict[str, Any]:
    """Limits by name; a resource without a quota has no limit."""
    return {name: limits.get(name, UNLIMITED) for name in names}


def detail_view(limits: Mapping[str, int], usage: Mapping[str, int], names: tuple[str, ...]) -> dict[str, Any]:
    """Limits with what is in use. Nothing is ever reserved: what is accepted is in use."""
    return {name: {"limit": limits.get(name, UNLIMITED), "in_use": usage.get(name, 0), "reserved": 0} for name in names}
