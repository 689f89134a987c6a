"""The network service (Network API v2.0) as compute uses it.

A port is an instance's if its `device_id` is the instance's uuid and its project the instance's: any member of any
project may write whatever uuid it knows into a port of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from cell_service.context import Context
from cell_service.model.instance import FixedIp, NetworkRequest, Vif

Record = dict[str, Any]
Noun = Literal[
    "networks", "subnets", "ports", "security-groups", "security-group-rules", "floatingips", "rbac-policies",
    "qos/policies",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class PortState:
    """A port of an instance as the network service has it. `security_groups` are ids."""

    port_id: str
    network_id: str
    mac: str
    status: str
    fixed_ips: tuple[FixedIp, ...] = ()
    tag: str | None = None
    security_groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, order=True)
class PortOwner:
    """The instance that a port names, and the port's own project. The instance has the port only if the projects are
    the same."""

    instance_uuid: str
    project_id: str


class Records(Protocol):
    """The records of the network service, of all projects: the caller decides what a request's project may see.

    Raises PeerUnavailable, and NotFound, Invalid, Conflict, Forbidden, OverQuota where the service refuses.
    """

    def find_all(self, ctx: Context, noun: Noun, **query: object) -> list[Record]:
        """All records that fit; a list of values means any of them."""

    def find(self, ctx: Context, noun: Noun, record_id: str) -> Record | None:
        """The record; None where there is none."""

    def create(self, ctx: Context, noun: Noun, fields: Record) -> Record: ...

    def change(self, ctx: Context, noun: Noun, record_id: str, fields: Record) -> Record:
        """Change these fields. Returns the record as it is then."""

    def delete(self, ctx: Context, noun: Noun, record_id: str) -> None:
        """Delete the record. No such record: no error."""


class Networks(Protocol):
    @property
    def records(self) -> Records: ...

    def validate(
        self,
        ctx: Context,
        requests: Sequence[NetworkRequest],
        security_groups: Sequence[str],
        count: int,
        *,
        attached_to: str | None = None,
        external: bool = False,
    ) -> None:
        """Check at the API that the project may use these networks, ports, fixed addresses and groups, and that its
        port quota admits `count` instances. No port may need resources of its host, such as guaranteed bandwidth: they
        would not be claimed. `attached_to`: the instance that gets the ports; None: new ones do. `external`: the
        caller may use external networks that are not shared.
        Raises NetworkNotFound, PortNotFound, SecurityGroupNotFound, Forbidden, Invalid, Conflict, OverQuota,
        PeerUnavailable."""

    def available(self, ctx: Context, project_id: str) -> tuple[str, ...]:
        """Ids of the networks that an instance of the project would be given without a choice (its own, then
        shared ones)."""

    def shown(self, ctx: Context, project_id: str) -> list[Record]:
        """The networks that the service shows to the project: its own, shared ones and external ones."""

    def allocate(
        self,
        ctx: Context,
        *,
        instance_uuid: str,
        project_id: str,
        host: str,
        availability_zone: str | None,
        hostname: str,
        requests: Sequence[NetworkRequest] | None,
        auto: bool,
        security_groups: Sequence[str],
    ) -> tuple[Vif, ...]:
        """Create or bind the instance's ports on `host`, in the order of the requests. Done again, it finds those there
        are. `requests` None: the project's networks (none available: no ports; more than one: Conflict).
        Raises like `validate`; ports it created are gone after an error."""

    def deallocate(self, ctx: Context, instance_uuid: str, *, project_id: str, keep: Sequence[str] = ()) -> None:
        """Delete the ports that compute created for the instance, and unbind those that its user gave (also `keep`).
        No ports: no error. Raises PeerUnavailable."""

    def plug(
        self,
        ctx: Context,
        *,
        instance_uuid: str,
        project_id: str,
        host: str,
        availability_zone: str | None,
        hostname: str,
        request: NetworkRequest,
        key: str,
    ) -> Vif:
        """Make or bind one more port of the instance on `host`, behind those it has. Called again with the same `key`
        it finds that port. Raises like `validate`; Invalid when the project has no network."""

    def unplug(self, ctx: Context, instance_uuid: str, port_id: str, *, project_id: str) -> None:
        """Release the instance's port: delete it if compute made it, else unbind it. Not its port: no error."""

    def roll_back(self, ctx: Context, instance_uuid: str, key: str, *, project_id: str) -> None:
        """Undo what `plug` has done with this key. Nothing done: no error."""

    def port_states(self, ctx: Context, instance_uuid: str, *, project_id: str) -> tuple[PortState, ...]:
        """The instance's ports as they are now, in their order. Raises PeerUnavailable."""

    def bind(self, ctx: Context, instance_uuid: str, host: str, *, project_id: str) -> tuple[Vif, ...]:
        """Bind all ports of the instance to `host`, whichever host they were bound to. Answers them as they are then,
        in their order. Done again: nothing changes. Raises Invalid when a port can't be bound there,
        PeerUnavailable."""

    def unbind(self, ctx: Context, instance_uuid: str, *, project_id: str) -> None:
        """Unbind all ports of the instance from their host; they stay the instance's, with their addresses. Done again:
        nothing changes. Raises PeerUnavailable."""

    def info(self, ctx: Context, instance_uuid: str, *, project_id: str) -> tuple[Vif, ...]:
        """The instance's ports as they are now."""

    def infos(self, ctx: Context, projects: Mapping[str, str]) -> dict[str, tuple[Vif, ...]]:
        """The ports of several instances (uuid → project) as they are now; nothing for those that have none. Few
        requests, however many instances. Raises PeerUnavailable."""

    def owners(self, ctx: Context, address: str) -> tuple[PortOwner, ...]:
        """The owners of compute's ports with this fixed address, in whatever network. Raises PeerUnavailable."""
