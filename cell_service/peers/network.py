"""The network service (Network API v2.0) as compute uses it. Ports are ours by `device_id` = instance uuid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cell_service.context import Context
from cell_service.model.instance import NetworkRequest, Vif


class Networks(Protocol):
    def validate(
        self, ctx: Context, requests: Sequence[NetworkRequest], security_groups: Sequence[str], count: int
    ) -> None:
        """Check at the API that the project may use these networks, ports, fixed addresses and groups, and that its
        port quota admits `count` instances. Raises NetworkNotFound, PortNotFound, SecurityGroupNotFound, Invalid,
        Conflict, OverQuota, PeerUnavailable."""

    def available(self, ctx: Context, project_id: str) -> tuple[str, ...]:
        """Ids of the networks that an instance of the project would be given without a choice (its own, then
        shared ones)."""

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
        """Create or bind the instance's ports on `host`, in the order asked. Done again, it finds what is there.
        `requests` None: the project's networks (none available: no ports; more than one: Conflict).
        Raises like `validate`; ports it created are gone after an error."""

    def deallocate(self, ctx: Context, instance_uuid: str, *, keep: Sequence[str] = ()) -> None:
        """Delete the ports that we created for the instance, and unbind those it was given (also `keep`).
        No ports: no error. Raises PeerUnavailable."""

    def bind(self, ctx: Context, instance_uuid: str, host: str) -> tuple[Vif, ...]:
        """All ports of the instance are bound to `host`, whichever host they were bound to. Answers them as they are
        then, in their order. Done again: nothing changes. Raises Invalid when a port can't be bound there,
        PeerUnavailable."""

    def unbind(self, ctx: Context, instance_uuid: str) -> None:
        """All ports of the instance stay the instance's, addresses and all, and are bound to no host. Done again:
        nothing changes. Raises PeerUnavailable."""

    def info(self, ctx: Context, instance_uuid: str) -> tuple[Vif, ...]:
        """The instance's ports as they are now."""

    def owners(self, ctx: Context, address: str) -> tuple[str, ...]:
        """Uuids of the instances that have a port with this fixed address, in whatever network. Raises
        PeerUnavailable."""
