"""A request spec turned into what a host must have: amounts, traits, zones, and the state of its server group.

Flavor extra specs `resources:CLASS`, `trait:NAME`, `hw:cpu_policy`, and image properties `trait:NAME` mean what nova's
documentation says (`request_groups`). So do the demands of a guest's hardware.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from api_cell.scheduler.config import SchedulerSection
from api_cell.scheduler.encryption import encryption_traits
from cell_service.model import demand, request_groups
from cell_service.model.hardware import NO_NEEDS, Needs, needs_of
from cell_service.model.request_groups import NO_GROUPS, RequestGroups
from cell_service.model.request_spec import RequestSpec
from mapping_db.server_groups import Group

DISABLED = "COMPUTE_STATUS_DISABLED"
_OFF = frozenset({DISABLED})
_TRAIT = re.compile(r"^trait:(?P<name>[A-Z0-9_]+)$")


@dataclass(slots=True)
class GroupState:
    """A server group while its members are being placed: how many are on each host. Those that have `departed`, which
    are deleted, do not count."""

    uuid: str
    policy: str
    limit: int
    counts: dict[str, int] = field(default_factory=dict)
    departed: frozenset[str] = frozenset()

    def add(self, host: str) -> None:
        self.counts[host] = self.counts.get(host, 0) + 1

    @classmethod
    def of(cls, group: Group, without: Collection[str], departed: frozenset[str] = frozenset()) -> GroupState:
        """The group as it is now, not counting the instances that are to be placed now."""
        state = cls(group.uuid, group.policy, group.max_server_per_host, departed=departed)
        for instance_uuid, host in group.members.items():
            if host is not None and instance_uuid not in without and instance_uuid not in departed:
                state.add(host)
        return state

    def refuses(self, host: str) -> str | None:
        """Why no further member may be on the host, if so."""
        count = self.counts.get(host, 0)
        if self.policy == "anti-affinity" and count >= self.limit:
            return f"has {self.limit} of the server group" if self.limit > 1 else "has one of the server group"
        if self.policy == "affinity" and self.counts and not count:
            return "has none of the server group"
        return None


@dataclass(frozen=True, slots=True)
class RequestView:
    """One instance's requirements of a host. `same_hosts`, `different_hosts`: keys of hosts, from hints.

    `resources`: the sums of all request groups. `required` and `forbidden`: traits of a host that one provider serves;
    of them `root_required` and `root_forbidden` are of the root in any case. The numbered groups have their own.
    """

    spec: RequestSpec
    resources: Mapping[str, int]
    groups: RequestGroups = NO_GROUPS
    required: frozenset[str] = frozenset()
    forbidden: frozenset[str] = frozenset({DISABLED})
    root_required: frozenset[str] = frozenset()
    root_forbidden: frozenset[str] = frozenset({DISABLED})
    zones: frozenset[str] = frozenset()
    group: GroupState | None = None
    same_hosts: frozenset[str] | None = None
    different_hosts: frozenset[str] = frozenset()
    abilities: frozenset[str] = frozenset()
    hardware: Needs = NO_NEEDS

    @property
    def forced(self) -> bool:
        """An administrator has named the host; no filter is applied."""
        return self.spec.force_host is not None or self.spec.force_node is not None

    @property
    def all_required(self) -> frozenset[str]:
        """The traits that any request group requires."""
        return self.required.union(*(group.required for group in self.groups.numbered.values()))


def request_view(
    spec: RequestSpec,
    config: SchedulerSection,
    *,
    group: GroupState | None = None,
    homes: Mapping[str, Collection[str]] | None = None,
) -> RequestView:
    """`homes`: keys of hosts by the uuid of the instance that lives there. Raises Invalid for request groups that are
    ill-formed, and for hardware that contradicts itself."""
    groups = _with_image_traits(request_groups.groups_of(spec.flavor, volume_backed=spec.volume_backed), spec)
    hardware = needs_of(spec.flavor, spec.image_properties)
    if encrypted := encryption_traits(spec):
        hardware = replace(hardware, traits=hardware.traits | encrypted)
    unnumbered, root_required, root_forbidden = groups.unnumbered, hardware.traits | _image_type(spec, config), _OFF
    if not unnumbered.resources:  # no provider serves it, so its traits are the root's
        root_required, root_forbidden = root_required | unnumbered.required, root_forbidden | unnumbered.forbidden
    return RequestView(
        spec=spec,
        resources=_resources(spec, groups),
        groups=groups,
        required=unnumbered.required | root_required,
        forbidden=unnumbered.forbidden | root_forbidden,
        root_required=root_required,
        root_forbidden=root_forbidden,
        zones=frozenset(part.strip() for part in (spec.availability_zone or "").split(",") if part.strip()),
        group=group,
        same_hosts=_homes(spec, "same_host", homes or {}),
        different_hosts=_homes(spec, "different_host", homes or {}) or frozenset(),
        abilities=hardware.abilities | set(spec.needs),
        hardware=hardware,
    )


def hinted(spec: RequestSpec) -> set[str]:
    """The instances whose hosts the hints mean."""
    return {uuid for name in ("same_host", "different_host") for uuid in _listed(spec, name)}


def _listed(spec: RequestSpec, name: str) -> list[str]:
    value = spec.scheduler_hints.get(name)
    return [str(part) for part in value] if isinstance(value, (list, tuple)) else [str(value)] if value else []


def _homes(spec: RequestSpec, name: str, homes: Mapping[str, Collection[str]]) -> frozenset[str] | None:
    """The hosts that a hint names; None without such a hint. A hint that names no instance of ours can't be met: the
    set is empty."""
    uuids = _listed(spec, name)
    return frozenset(key for uuid in uuids for key in homes.get(uuid, ())) if uuids else None


def _resources(spec: RequestSpec, groups: RequestGroups) -> Mapping[str, int]:
    if not groups.numbered:
        return groups.unnumbered.resources
    return demand.of_flavor(spec.flavor, volume_backed=spec.volume_backed)


def _with_image_traits(groups: RequestGroups, spec: RequestSpec) -> RequestGroups:
    """The groups; the traits that the image requires are of the unnumbered one."""
    traits = {
        match["name"]
        for key, value in spec.image_properties.items()
        if value == "required" and (match := _TRAIT.match(key))
    }
    if not traits:
        return groups
    unnumbered = replace(groups.unnumbered, required=groups.unnumbered.required | traits)
    return replace(groups, unnumbered=unnumbered)


def _image_type(spec: RequestSpec, config: SchedulerSection) -> frozenset[str]:
    if config.query_placement_for_image_type_support and spec.image_disk_format and not spec.volume_backed:
        return frozenset({f"COMPUTE_IMAGE_TYPE_{spec.image_disk_format.upper()}"})
    return frozenset()
