"""Sockets, cores and threads of a guest's processor (Nova, CPU topologies): exact values and upper limits, both from
flavors and images. An image may ask for less than its flavor allows, and never for more."""

from __future__ import annotations

from dataclasses import dataclass

from cell_service.errors import Invalid
from cell_service.model.hardware.pairs import Pair

UNLIMITED = 65536
_PARTS = ("sockets", "cores", "threads")


@dataclass(frozen=True, slots=True)
class Topology:
    sockets: int
    cores: int = 1
    threads: int = 1

    @property
    def vcpus(self) -> int:
        return self.sockets * self.cores * self.threads


def of(vcpus: int, pair: Pair) -> Topology:
    """The topology that has the most of the exact values that were requested; then the fewest threads, then the most
    sockets. Raises Invalid."""
    flavor_most = _read(pair, "hw:cpu_max_", of_flavor=True)
    image_most = _read(pair, "hw_cpu_max_", of_flavor=False)
    if _exceeds(image_most, flavor_most):
        raise Invalid(
            reason=f"Image vCPU topology limits ({_said(image_most)}) exceeds the limits of the flavor "
            f"({_said(flavor_most)})"
        )
    most = tuple(min(one or UNLIMITED, other or UNLIMITED) for one, other in zip(flavor_most, image_most, strict=True))
    exact = _read(pair, "hw_cpu_", of_flavor=False)
    if any(exact):
        if _exceeds(exact, most):
            raise Invalid(
                reason=f"Image vCPU topology ({_said(exact)}) exceeds the limits of the flavor or image ({_said(most)})"
            )
    else:
        wanted = _read(pair, "hw:cpu_", of_flavor=True)
        exact = tuple(one if one is not None and one <= limit else None
                      for one, limit in zip(wanted, most, strict=True))  # fmt: skip
    possible = [one for one in _all(vcpus) if not _exceeds(_parts(one), most)]
    if not possible:
        limits = ":".join(str(limit) for limit in most)
        raise Invalid(reason=f"Requested vCPU limits {limits} are impossible to satisfy for vcpus count {vcpus}")
    return max(possible, key=lambda one: (_met(one, exact), one.sockets * one.cores, one.sockets))


def _read(pair: Pair, prefix: str, *, of_flavor: bool) -> tuple[int | None, ...]:
    read = pair.spec_number if of_flavor else pair.prop_number
    return tuple(read(prefix + part, 1) for part in _PARTS)


def _all(vcpus: int) -> list[Topology]:
    divisors = [number for number in range(1, vcpus + 1) if vcpus % number == 0]
    return [
        Topology(sockets, cores, vcpus // sockets // cores)
        for sockets in divisors
        for cores in divisors
        if vcpus // sockets % cores == 0
    ]


def _parts(one: Topology) -> tuple[int, int, int]:
    return one.sockets, one.cores, one.threads


def _met(one: Topology, exact: tuple[int | None, ...]) -> int:
    return sum(has == wanted for has, wanted in zip(_parts(one), exact, strict=True))


def _exceeds(values: tuple[int | None, ...], limits: tuple[int | None, ...]) -> bool:
    return any(value is not None and limit is not None and value > limit
               for value, limit in zip(values, limits, strict=True))  # fmt: skip


def _said(values: tuple[int | None, ...]) -> str:
    return ", ".join(f"{part}={value or 'any'}" for part, value in zip(_PARTS, values, strict=True))
