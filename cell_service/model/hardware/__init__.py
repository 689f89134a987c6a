"""The hardware of a guest as its flavor and its image describe it, and the demands of a host that follow from that.

Pure: the API refuses contradictions with it, the scheduler chooses hosts, drivers build guests.
"""

from __future__ import annotations

from cell_service.model.hardware.cpu_topology import Topology
from cell_service.model.hardware.guest import AddressSpace, Hardware, Rng, Tpm, of
from cell_service.model.hardware.limits import Bandwidth, Limits
from cell_service.model.hardware.needs import NO_NEEDS, Needs, needs_of

__all__ = [
    "NO_NEEDS",
    "AddressSpace",
    "Bandwidth",
    "Hardware",
    "Limits",
    "Needs",
    "Rng",
    "Topology",
    "Tpm",
    "needs_of",
    "of",
]
