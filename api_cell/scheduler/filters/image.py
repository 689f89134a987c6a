"""Whether the host's hypervisor can run the image."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from api_cell.scheduler.hosts import HostState
from api_cell.scheduler.request_view import RequestView

_ARCHITECTURES = {"amd64": "x86_64", "x86-64": "x86_64", "x86_32": "i686", "i386": "i686", "i486": "i686",
                  "i586": "i686", "arm64": "aarch64", "powerpc": "ppc", "powerpc64": "ppc64"}  # fmt: skip
_HYPERVISORS = {"xapi": "xen", "powervm": "phyp"}
_MODES = {"pv": "xen", "hv": "hvm", "baremetal": "hvm"}
_COMPARISONS: dict[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
    ">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne, ">": operator.gt, "<": operator.lt,
    "=": operator.eq,
}  # fmt: skip
_TERM = re.compile(r"^\s*(>=|<=|==|!=|>|<|=)\s*([0-9.]+)\s*$")


@dataclass(frozen=True, slots=True)
class ImageProperties:
    """The host supports the image's architecture, hypervisor type and VM mode in one combination, and its version."""

    default_architecture: str | None = None

    def reject(self, host: HostState, request: RequestView) -> str | None:
        requested = request.spec.image_properties
        architecture = _first(requested, "hw_architecture", "architecture") or self.default_architecture
        wanted = (
            _canonical(architecture, _ARCHITECTURES),
            _canonical(_first(requested, "img_hv_type", "hypervisor_type"), _HYPERVISORS),
            _canonical(_first(requested, "hw_vm_mode", "vm_mode"), _MODES),
        )
        if any(wanted) and not any(_serves(supported, wanted) for supported in host.supported_instances):
            return f"does not run {' '.join(part for part in wanted if part)}"
        version = _first(requested, "img_hv_requested_version", "hypervisor_version_requires")
        if version and not _version_fits(host.hypervisor_version, version):
            return f"has not hypervisor version {version}"
        return None


def _first(properties: Mapping[str, str], *names: str) -> str | None:
    return next((properties[name] for name in names if properties.get(name)), None)


def _canonical(text: str | None, aliases: Mapping[str, str]) -> str | None:
    return aliases.get(text.lower(), text.lower()) if text else None


def _serves(supported: tuple[str, str, str], wanted: tuple[str | None, ...]) -> bool:
    for has, requested, aliases in zip(supported, wanted, (_ARCHITECTURES, _HYPERVISORS, _MODES), strict=True):
        if requested is not None and _canonical(has, aliases) != requested:
            return False
    return True


def _version_fits(number: int, predicate: str) -> bool:
    """A comma-separated predicate on a version reported as major * 1000000 + minor * 1000 + release."""
    has = (number // 1_000_000, number // 1000 % 1000, number % 1000)
    for term in predicate.split(","):
        match = _TERM.match(term)
        if match is None:
            return False
        parts = [int(part) for part in match[2].split(".") if part]
        if not _COMPARISONS[match[1]](has, tuple([*parts, 0, 0, 0][:3])):
            return False
    return True
