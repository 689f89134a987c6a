"""The availability zone that a server is bound to: cleared, or bound again to where the server is (2.104)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from cell_service.errors import PinnedZoneElsewhere
from cell_service.model.instance import Instance
from mapping_db import request_specs
from mapping_db.cloud import Cloud

COLUMN = "pinned_availability_zone"


def check(instance: Instance, wanted: Mapping[str, Any]) -> None:
    """A change may bind a server only to the zone in which it is. Raises PinnedZoneElsewhere."""
    zone = wanted.get(COLUMN)
    if zone is not None and zone != instance.availability_zone:
        raise PinnedZoneElsewhere(instance_uuid=instance.uuid, zone=zone, availability_zone=instance.availability_zone)


def notify_scheduler(cloud: Cloud, instance_uuid: str, wanted: Mapping[str, Any]) -> None:
    """The next move considers hosts in that zone only, or in any; no change where the request does not name the pin."""
    if COLUMN not in wanted:
        return

    def work(tx: Connection) -> None:
        spec = request_specs.get(tx, instance_uuid)
        if spec is not None:
            request_specs.replace(tx, replace(spec, availability_zone=wanted[COLUMN]))

    cloud.db.run(work)
