"""The shared file system service (Shared File Systems API v2) as compute uses it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from cell_service.context import Context

NFS, CEPHFS = "NFS", "CEPHFS"


@dataclass(frozen=True, slots=True)
class Share:
    """A share as its service shows it. `export_location`: the preferred one; None while there is none."""

    id: str
    project_id: str
    status: str
    proto: str
    is_public: bool = False
    export_location: str | None = None


class AccessState(StrEnum):
    """The state of an access rule. WAITING: the service has not applied it yet."""

    ACTIVE = "active"
    WAITING = "waiting"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Access:
    """The client that gets access: `kind` "ip" with an address, or "cephx" with a name. `mark`: the rule's owner."""

    kind: str
    to: str
    mark: str


class Shares(Protocol):
    """Raises PeerUnavailable everywhere."""

    def get(self, ctx: Context, share_id: str) -> Share:
        """Raises ShareNotFound, also for one that the caller may not see."""

    def allow(self, ctx: Context, share_id: str, access: Access) -> AccessState:
        """Make a rule that lets the client read and write, if there is none. Answers the rule's state.
        Raises ShareNotFound, ShareUnavailable."""

    def deny(self, ctx: Context, share_id: str, access: Access) -> None:
        """Remove the rule that `allow` made, now or soon. No such rule, or no such share: no error. A rule of another
        owner stays. Raises ShareUnavailable."""
