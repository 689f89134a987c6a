"""The limits that a flavor puts on a guest: `quota:cpu_*`, `quota:disk_*` and `quota:vif_*` (Nova, resource limits)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cell_service.errors import Invalid
from cell_service.model.hardware.pairs import Pair

_OF_DISK = tuple(f"{of}_{by}_sec" for by in ("bytes", "iops") for of in ("total", "read", "write"))
_PERIOD, _LEAST_QUOTA = range(1_000, 1_000_001), 1_000


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """KiB a second; `burst` in KiB. 0: none."""

    average: int
    peak: int = 0
    burst: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """`cpu_period` and `cpu_quota` in microseconds, for each vCPU; a negative quota is no limit. `disk`: by libvirt's
    names (`total_bytes_sec`, …), for each disk. `inbound` and `outbound`: for each port."""

    cpu_shares: int | None = None
    cpu_period: int | None = None
    cpu_quota: int | None = None
    disk: Mapping[str, int] = field(default_factory=dict)
    inbound: Bandwidth | None = None
    outbound: Bandwidth | None = None

    @property
    def of_cpu(self) -> bool:
        return not (self.cpu_shares is None and self.cpu_period is None and self.cpu_quota is None)

    @property
    def of_network(self) -> bool:
        return not (self.inbound is None and self.outbound is None)


def of(pair: Pair) -> Limits:
    """Values of 0 are none. Raises Invalid."""
    disk = {name: value for name in _OF_DISK if (value := pair.spec_number(f"quota:disk_{name}"))}
    for by in ("bytes", "iops"):
        if f"total_{by}_sec" in disk and disk.keys() & {f"read_{by}_sec", f"write_{by}_sec"}:
            raise Invalid(reason=f"Flavor extra specs quota:disk_total_{by}_sec and those for reading or writing "
                                 "exclude each other.")  # fmt: skip
    period = pair.spec_number("quota:cpu_period") or None
    if period is not None and period not in _PERIOD:
        raise Invalid(reason=f"Flavor extra spec quota:cpu_period: {period} is not between 1000 and 1000000.")
    quota = pair.spec_number("quota:cpu_quota", -(2**63)) or None
    if quota is not None and 0 < quota < _LEAST_QUOTA:
        raise Invalid(reason=f"Flavor extra spec quota:cpu_quota: {quota} is less than 1000.")
    return Limits(
        cpu_shares=pair.spec_number("quota:cpu_shares") or None,
        cpu_period=period,
        cpu_quota=quota,
        disk=disk,
        inbound=_bandwidth(pair, "inbound"),
        outbound=_bandwidth(pair, "outbound"),
    )


def _bandwidth(pair: Pair, way: str) -> Bandwidth | None:
    average, peak, burst = (pair.spec_number(f"quota:vif_{way}_{of}") or 0 for of in ("average", "peak", "burst"))
    if not average and (peak or burst):
        raise Invalid(reason=f"Flavor extra spec quota:vif_{way}_average is needed for a peak or a burst.")
    return Bandwidth(average, peak, burst) if average else None
