"""Encryption of local disks, which flavors and images request: Nova's words, and the traits of hosts that can do it."""

from __future__ import annotations

from collections.abc import Mapping

from oslo_utils.strutils import bool_from_string

from cell_service.model.request_spec import RequestSpec

ABLE = "COMPUTE_EPHEMERAL_ENCRYPTION"


def encryption_traits(spec: RequestSpec) -> set[str]:
    """The traits of hosts that can encrypt the server's local disks; empty: that is not requested."""
    specs, properties = spec.flavor.extra_specs, spec.image_properties
    if not bool_from_string(specs.get("hw:ephemeral_encryption")) and not image_requests_encryption(properties):
        return set()
    kinds = {specs.get("hw:ephemeral_encryption_format"), properties.get("hw_ephemeral_encryption_format")}
    return {ABLE} | {f"{ABLE}_{kind.upper()}" for kind in kinds if kind}


def image_requests_encryption(properties: Mapping[str, str]) -> bool:
    return bool(bool_from_string(properties.get("hw_ephemeral_encryption")))
