"""A host's access to shares, granted and removed. Guests get them when they start (`virt.driver.Mountable`).

Each function may run again after a restart in the middle of it: access rules are found by share and client.
"""

from __future__ import annotations

import threading
from dataclasses import replace

from cell_service.errors import NotSupported, NotYet, ShareUnavailable, Unavailable
from cell_service.model.instance import Instance
from cell_service.model.lifecycle import Task
from cell_service.model.operation import Outcome
from cell_service.model.share import ShareMapping, ShareStatus
from cell_service.operations.shares import ShareArguments
from cell_service.peers.shares import AccessState
from compute_host.operations.context import HostContext, OperationContext, outcome_of
from compute_host.operations.share_access import HostShares
from compute_host.virt.driver import Mountable

POLL_SECONDS = 1.0
_GONE = frozenset({ShareStatus.DETACHING})


def attach(context: HostContext, work: OperationContext, arguments: ShareArguments) -> Outcome:
    """Get access to the share for this host. Raises NotSupported, ShareNotFound, ShareUnavailable, PeerUnavailable."""
    mapping = _mapping(work, arguments)
    if mapping is None:
        return outcome_of(context, work)
    if not isinstance(context.driver, Mountable):
        raise NotSupported(reason="Guests of this host cannot have shares.")
    shares = _of(context)
    access, never = shares.access(mapping), threading.Event()
    with shares.lock:
        state = shares.service.allow(work.ctx, mapping.share_id, access)
        until = shares.clock.monotonic() + shares.wait_seconds
        while state is AccessState.WAITING and shares.clock.monotonic() < until:
            work.check()
            shares.clock.wait(never, POLL_SECONDS)
            state = shares.service.allow(work.ctx, mapping.share_id, access)
    if state is not AccessState.ACTIVE:
        words = "was refused" if state is AccessState.ERROR else "was not given in time"
        raise ShareUnavailable(share_id=mapping.share_id, reason=f"access of host {context.host} {words}")
    ready = replace(mapping, status=ShareStatus.INACTIVE, access_to=access.to)
    return replace(outcome_of(context, work), share=ready)


def detach(context: HostContext, work: OperationContext, arguments: ShareArguments) -> Outcome:
    """Remove this host's access to the share, unless another instance here needs it. Raises NotYet."""
    mapping = _mapping(work, arguments)
    if mapping is not None:
        try:
            _leave(context, work, mapping)
        except Unavailable as error:
            raise NotYet(reason=str(error)) from error
    return outcome_of(context, work)


def leave(context: HostContext, work: OperationContext) -> None:
    """Remove this host's access to the instance's shares, except those that others need. Raises PeerUnavailable."""
    for mapping in work.instance.shares if context.shares is not None else ():
        _leave(context, work, mapping)


def _leave(context: HostContext, work: OperationContext, mapping: ShareMapping) -> None:
    shares = _of(context)
    with shares.lock:
        here = shares.neighbours(work.ctx)
        if not any(_has(other, mapping.share_id) for other in here if other.uuid != work.instance.uuid):
            shares.service.deny(work.ctx, mapping.share_id, shares.access(mapping))


def _has(instance: Instance, share_id: str) -> bool:
    """Whether the instance needs the share. A removal under way does not count: otherwise two removals at once would
    each keep the access for the other."""
    going = instance.task_state is Task.DELETING
    return not going and any(one.share_id == share_id and one.status not in _GONE for one in instance.shares)


def _mapping(work: OperationContext, arguments: ShareArguments) -> ShareMapping | None:
    """The mapping that the operation is about; None when the instance has it no more."""
    return next((one for one in work.instance.shares if one.uuid == arguments.share), None)


def _of(context: HostContext) -> HostShares:
    """Raises NotSupported."""
    if context.shares is None:
        raise NotSupported(reason="This host has no shared file system service.")
    return context.shares
