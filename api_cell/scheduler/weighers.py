"""Which of the possible hosts is best. A weigher scores in its own unit, more is better; the ranking brings all scores
of one weigher to 0..1 and multiplies. An aggregate's metadata may override a multiplier; the least of several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from api_cell.scheduler.config import FilterSection
from api_cell.scheduler.hosts import HostState
from cell_service.errors import Invalid


class Scorer(Protocol):
    def __call__(self, host: HostState) -> float: ...


@dataclass(frozen=True, slots=True)
class Weigher:
    """`option`: the multiplier's name, in nova.conf and in aggregates."""

    name: str
    option: str
    multiplier: float
    score: Scorer

    def multiplier_for(self, host: HostState) -> float:
        own = [number for text in host.metadata_values(self.option) if (number := _number(text)) is not None]
        return min(own, default=self.multiplier)


def free(resource_class: str) -> Scorer:
    """Score hosts by the free amount of a class, as far as it may be claimed."""

    def score(host: HostState) -> float:
        headroom = host.headrooms.get(resource_class)
        return float(headroom.capacity - headroom.used) if headroom is not None else 0.0

    return score


def io_ops(host: HostState) -> float:
    """More is busier; the default multiplier is negative."""
    return float(host.num_io_ops)


def num_instances(host: HostState) -> float:
    return float(host.num_instances)


def build_failures(host: HostState) -> float:
    return -float(host.failed_builds)


def hypervisor_version(host: HostState) -> float:
    return float(host.hypervisor_version)


SCORERS: dict[str, tuple[str, Scorer]] = {
    "RAMWeigher": ("ram", free("MEMORY_MB")),
    "CPUWeigher": ("cpu", free("VCPU")),
    "DiskWeigher": ("disk", free("DISK_GB")),
    "IoOpsWeigher": ("io_ops", io_ops),
    "NumInstancesWeigher": ("num_instances", num_instances),
    "BuildFailureWeigher": ("build_failure", build_failures),
    "HypervisorVersionWeigher": ("hypervisor_version", hypervisor_version),
}
GROUP_WEIGHERS = ("ServerGroupSoftAffinityWeigher", "ServerGroupSoftAntiAffinityWeigher")
"""The weighers of what changes with each pick, which are the ranking's own."""
_IDLE = ("PCIWeigher", "MetricsWeigher", "CrossCellWeigher", "ImagePropertiesWeigher")
"""Known names with nothing to weigh here: no PCI devices or metrics are tracked, and moves are not weighed."""


@dataclass(frozen=True, slots=True)
class SoftPolicies:
    """Scores a place by how near to (or far from) the members of a soft group it is."""

    affinity: float
    anti_affinity: float

    def multiplier_for(self, policy: str) -> float:
        """Negative: members repel. 0.0 for other policies."""
        return {"soft-affinity": self.affinity, "soft-anti-affinity": -self.anti_affinity}.get(policy, 0.0)


def enabled(config: FilterSection) -> tuple[list[Weigher], SoftPolicies]:
    """The weighers of `weight_classes`. Raises Invalid for a name that is none."""
    names: list[str] = []
    for text in config.weight_classes:
        name = text.rsplit(".", 1)[-1]
        names += [*SCORERS, *GROUP_WEIGHERS] if name == "all_weighers" else [name]
    if strange := [name for name in names if name not in (*SCORERS, *GROUP_WEIGHERS, *_IDLE)]:
        raise Invalid(reason=f"[filter_scheduler] weight_classes: there is no {', '.join(strange)}")
    weighers = []
    for name in dict.fromkeys(names):
        if name in SCORERS:
            option, score = SCORERS[name]
            option = f"{option}_weight_multiplier"
            weighers.append(Weigher(name, option, float(getattr(config, option)), score))
    soft = SoftPolicies(
        affinity=config.soft_affinity_weight_multiplier if GROUP_WEIGHERS[0] in names else 0.0,
        anti_affinity=config.soft_anti_affinity_weight_multiplier if GROUP_WEIGHERS[1] in names else 0.0,
    )
    return weighers, soft


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
