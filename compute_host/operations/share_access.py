"""The identity by which a host may mount shares."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from cell_service.context import Clock, Context
from cell_service.model.instance import Instance
from cell_service.model.share import ShareMapping
from cell_service.peers.shares import CEPHFS, Access, Shares

Neighbours = Callable[[Context], tuple[Instance, ...]]
"""The instances that the cell believes to be on this host."""


@dataclass(frozen=True, slots=True)
class HostShares:
    """One host's access to shares. Access rules are made and removed under `lock`, so that none is removed that was
    just found for another instance."""

    host: str
    address: str
    service: Shares
    wait_seconds: float
    clock: Clock
    neighbours: Neighbours
    lock: threading.Lock = field(default_factory=threading.Lock)

    def access(self, mapping: ShareMapping) -> Access:
        """The client as which this host mounts, or mounted, the share."""
        kind, to = ("cephx", self.host) if mapping.share_proto == CEPHFS else ("ip", self.address)
        return Access(kind, mapping.access_to or to, self.host)
