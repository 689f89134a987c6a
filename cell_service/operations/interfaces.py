"""Ports attached to guests and detached. The instance's state stays as it is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from cell_service.errors import NotImplementedByHost
from cell_service.model.ability import Ability
from cell_service.model.lifecycle import VmState
from cell_service.operations.declaration import (
    Changes,
    Ending,
    HostDeath,
    NoResult,
    Operation,
    again,
    fail,
)
from cell_service.operations.effects import CleanUpHost, Effect, RemovePort, WithdrawPort
from cell_service.operations.rule import Rule

_PLUGGABLE = Rule(frozenset({VmState.ACTIVE, VmState.PAUSED, VmState.STOPPED}), task=None)


@dataclass(frozen=True, slots=True)
class AttachInterfaceArguments:
    """A port is made, or the given one bound, and plugged; `key` marks it as this operation's."""

    key: str
    network_id: str | None = None
    port_id: str | None = None
    fixed_ip: str | None = None
    tag: str | None = None


@dataclass(frozen=True, slots=True)
class AttachInterfaceResult:
    port_id: str = ""


@dataclass(frozen=True, slots=True)
class DetachInterfaceArguments:
    """The port is unplugged; deleted if compute made it, else unbound."""

    port_id: str


def _not_attached(ending: Ending[AttachInterfaceArguments, AttachInterfaceResult]) -> Changes:
    return again(ending) if ending.outcome.retriable else fail(ending, WithdrawPort(ending.arguments.key))


def _detached_without_host(ending: Ending[DetachInterfaceArguments, NoResult]) -> Changes:
    port_id, known = ending.arguments.port_id, ending.instance.network_info
    gone = tuple(vif for vif in known if vif.port_id == port_id)
    effects: tuple[Effect, ...] = (RemovePort(port_id),)
    if gone:
        effects = (*effects, CleanUpHost(ports_out=gone))
    left = tuple(vif for vif in known if vif.port_id != port_id)
    return Changes(columns={"network_info": left}, effects=effects)


ATTACH_INTERFACE = Operation(
    name="attach_interface",
    needs=Ability.INTERFACES,
    unable=NotImplementedByHost,
    action="attach_interface",
    event="compute_attach_interface",
    rule=_PLUGGABLE,
    arguments=AttachInterfaceArguments,
    result=AttachInterfaceResult,
    deadline=timedelta(seconds=50),
    when_host_dies=HostDeath.DO_HERE_ONCE_DEAD,
    reports=True,
    changes_ports=True,
    given_up_by_reset=False,
    failed=_not_attached,
)
DETACH_INTERFACE = Operation(
    name="detach_interface",
    action="detach_interface",
    event="compute_detach_interface",
    rule=_PLUGGABLE,
    arguments=DetachInterfaceArguments,
    result=NoResult,
    deadline=None,
    when_host_dies=HostDeath.DO_HERE_ONCE_DEAD,
    changes_ports=True,
    given_up_by_reset=False,
    host_died=_detached_without_host,
)

ALL: tuple[Operation[Any, Any], ...] = (ATTACH_INTERFACE, DETACH_INTERFACE)
