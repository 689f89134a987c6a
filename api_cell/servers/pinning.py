"""The availability zone that a server is bound to: cleared, or bound again to where the server is (2.104)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cell_service.errors import PinnedZoneElsewhere
from cell_service.model.instance import Instance

COLUMN = "pinned_availability_zone"


def check(instance: Instance, wanted: Mapping[str, Any]) -> None:
    """A change may bind a server only to the zone in which it is. Raises PinnedZoneElsewhere."""
    zone = wanted.get(COLUMN)
    if zone is not None and zone != instance.availability_zone:
        raise PinnedZoneElsewhere(instance_uuid=instance.uuid, zone=zone, availability_zone=instance.availability_zone)
