"""Encryption of local disks, which flavors and images request: Nova's words, and the traits of hosts that can do it."""

from __future__ import annotations

from collections.abc import Mapping

from cell_service.model.request_spec import RequestSpec

ABLE = "COMPUTE_EPHEMERAL_ENCRYPTION"
_TRUE = frozenset({"1", "t", "true", "on", "y", "yes"})


def encryption_traits(spec: RequestSpec) -> set[str]:
    """The traits of hosts that can encrypt the server's local disks; empty: that is not requested."""
    specs, properties = spec.flavor.extra_specs, spec.image_properties
    if not _is_true(specs.get("hw:ephemeral_encryption")) and not image_requests_encryption(properties):
        return set()
    kinds = {specs.get("hw:ephemeral_encryption_format"), properties.get("hw_ephemeral_encryption_format")}
    return {ABLE} | {f"{ABLE}_{kind.upper()}" for kind in kinds if kind}


def image_requests_encryption(properties: Mapping[str, str]) -> bool:
    return _is_true(properties.get("hw_ephemeral_encryption"))


def _is_true(value: str | None) -> bool:
    return (value or "").strip().lower() in _TRUE
