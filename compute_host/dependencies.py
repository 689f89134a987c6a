"""The dependencies that the hosts of one process share: threads, timers, the cell's queue and clients of other
services."""

from __future__ import annotations

from dataclasses import dataclass

from cell_service.peers.certificates import Certificates
from cell_service.peers.image import Images
from cell_service.peers.keys import Keys
from cell_service.peers.network import Networks
from cell_service.peers.placement import Placement
from cell_service.peers.shares import Shares
from cell_service.peers.volumes import Volumes
from cell_service.rpc.transport import Transport
from compute_host.host_queue import HostQueues
from compute_host.operations.context import DriveMaker


@dataclass(frozen=True, slots=True)
class HostDependencies:
    """A service that is None does not exist, and instances use nothing of it.

    `transport` is the configured cell's queue; `queues` connects to the queue of another cell that hosts are to join
    (None: they can't).
    """

    transport: Transport
    networks: Networks | None = None
    placement: Placement | None = None
    images: Images | None = None
    volumes: Volumes | None = None
    shares: Shares | None = None
    drive: DriveMaker | None = None
    queues: HostQueues | None = None
    certificates: Certificates | None = None
    keys: Keys | None = None
