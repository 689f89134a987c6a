"""The shares of an instance: shared file systems that its guest can mount, by their tags, while it runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from cell_service.model.lifecycle import PowerState


class ShareStatus(StrEnum):
    """INACTIVE: the host has access, and the guest will have the share when it runs. ACTIVE, that the guest has it,
    follows from its power state and is never stored."""

    ATTACHING = "attaching"
    INACTIVE = "inactive"
    ACTIVE = "active"
    DETACHING = "detaching"
    ERROR = "error"


_ALIVE = frozenset({PowerState.RUNNING, PowerState.PAUSED, PowerState.SUSPENDED})


@dataclass(frozen=True, slots=True)
class ShareMapping:
    """A share of an instance. `access_to`: the name or address that the host has access by; None before it was
    requested."""

    uuid: str
    share_id: str
    tag: str
    status: ShareStatus
    export_location: str
    share_proto: str
    access_to: str | None = None

    @property
    def usable(self) -> bool:
        """Whether a guest that starts gets the share."""
        return self.status is ShareStatus.INACTIVE

    def shown(self, power_state: PowerState) -> ShareStatus:
        """The status of the share of a guest in that power state."""
        return ShareStatus.ACTIVE if self.usable and power_state in _ALIVE else self.status


def of_share(mappings: Iterable[ShareMapping], share_id: str) -> ShareMapping | None:
    """The mapping of that share; None when the instance does not have it."""
    return next((one for one in mappings if one.share_id == share_id), None)


def changed(mappings: Iterable[ShareMapping], new: ShareMapping | None, uuid: str) -> tuple[ShareMapping, ...]:
    """The mappings with `new` (None: nothing) in place of the one of that uuid; unchanged when none has the uuid."""
    after = ((new if one.uuid == uuid else one) for one in mappings)
    return tuple(one for one in after if one is not None)
