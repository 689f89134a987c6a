"""Shares attached to instances that are off, and detached. The instance's state stays as it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from cell_service.errors import ForbiddenByHost
from cell_service.model.ability import Ability
from cell_service.model.lifecycle import VmState
from cell_service.model.operation import Phase
from cell_service.model.share import ShareStatus, changed
from cell_service.operations.declaration import Changes, Ending, NoResult, Operation, again
from cell_service.operations.rule import Rule

_OFF = Rule(frozenset({VmState.STOPPED}), task=None)


@dataclass(frozen=True, slots=True)
class ShareArguments:
    """The share of that mapping, by its uuid: attached, the host may mount it; detached, it may not any more, unless
    another instance on it has that share."""

    share: str = ""


def _attached(ending: Ending[ShareArguments, NoResult]) -> Changes:
    after = changed(ending.instance.shares, ending.outcome.share, ending.arguments.share)
    return Changes(columns={"shares": after})


def _detached(ending: Ending[ShareArguments, NoResult]) -> Changes:
    return Changes(columns={"shares": changed(ending.instance.shares, None, ending.arguments.share)})


def _in_error(ending: Ending[ShareArguments, NoResult]) -> Changes:
    """The share is in ERROR; it may be detached."""
    if ending.outcome.retriable:
        return again(ending)
    uuid, mappings = ending.arguments.share, ending.instance.shares
    after = tuple(replace(one, status=ShareStatus.ERROR) if one.uuid == uuid else one for one in mappings)
    return Changes(Phase.FAILED, {"shares": after}, fault=ending.fault)


ATTACH_SHARE = Operation(
    name="attach_share",
    needs=Ability.SHARES,
    unable=ForbiddenByHost,
    action="attach_share",
    event="compute_attach_share",
    rule=_OFF,
    arguments=ShareArguments,
    result=NoResult,
    succeeded=_attached,
    failed=_in_error,
)
DETACH_SHARE = Operation(
    name="detach_share",
    action="detach_share",
    event="compute_detach_share",
    rule=_OFF,
    arguments=ShareArguments,
    result=NoResult,
    succeeded=_detached,
    failed=_in_error,
)

ALL: tuple[Operation[Any, Any], ...] = (ATTACH_SHARE, DETACH_SHARE)
