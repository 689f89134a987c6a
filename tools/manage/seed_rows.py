"""The rows of a made-up instance: the same for the same seed, project, cell and number."""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cell_service.db import instances as instance_rows
from cell_service.model.instance import FixedIp, Flavor, Instance, Vif
from cell_service.model.lifecycle import PowerState, VmState
from cell_service.model.request_spec import RequestSpec
from mapping_db.cell_mappings import CellMapping
from mapping_db.instance_mappings import InstanceMapping
from mapping_db.placement.allocations import Claim

HOST_PREFIX = "bench-c"
RESERVATION = "r-bench"
"""Both together distinguish made-up instances from real ones."""

USER = "bench"
IMAGE = str(uuid.uuid5(uuid.NAMESPACE_OID, "polycell bench image"))
NETWORK = str(uuid.uuid5(uuid.NAMESPACE_OID, "polycell bench network"))
START = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = 90

FLAVORS = (
    Flavor("bench.small", "bench.small", vcpus=1, memory_mib=2048, root_gib=20),
    Flavor("bench.medium", "bench.medium", vcpus=2, memory_mib=4096, root_gib=40),
    Flavor("bench.large", "bench.large", vcpus=4, memory_mib=8192, root_gib=80),
)
_ROLES = ("web", "db", "cache", "queue", "worker", "build")


@dataclass(frozen=True, slots=True)
class Planned:
    """One instance that there shall be: the `number`th of its cell."""

    uuid: str
    number: int
    host: str
    flavor: Flavor
    created_at: datetime

    @property
    def amounts(self) -> dict[str, int]:
        flavor = self.flavor
        found = {"VCPU": flavor.vcpus, "MEMORY_MB": flavor.memory_mib, "DISK_GB": flavor.disk_gib()}
        return {name: amount for name, amount in found.items() if amount}


def plan(cell: CellMapping, project_id: str, seed: int, count: int, hosts: int) -> list[Planned]:
    """The first `count` instances of this seed in the cell; a larger count gives the same ones and more."""
    key = uuid.uuid5(uuid.NAMESPACE_OID, f"polycell bench {seed} {project_id}")
    found = []
    for number in range(count):
        identity = uuid.uuid5(key, f"{cell.uuid} {number}")
        dice = random.Random(identity.int)
        found.append(
            Planned(
                uuid=str(identity),
                number=number,
                host=f"{HOST_PREFIX}{cell.id}-{key.hex[:8]}-{number % hosts}",
                flavor=dice.choice(FLAVORS),
                created_at=START + timedelta(seconds=dice.randrange(DAYS * 86400)),
            )
        )
    return found


def provider_uuid(host: str) -> str:
    """The resource provider of a made-up host."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, host))


def instance(planned: Planned, project_id: str) -> Instance:
    dice = random.Random(planned.uuid)
    role = dice.choice(_ROLES)
    name = f"{role}-{planned.number:05d}"
    built = planned.created_at + timedelta(seconds=dice.randint(5, 60))
    address = f"10.{dice.randrange(256)}.{dice.randrange(256)}.{dice.randint(2, 254)}"
    vif = Vif(
        port_id=str(uuid.UUID(int=dice.getrandbits(128), version=4)),
        network_id=NETWORK,
        network_name="bench",
        mac="fa:16:3e:" + ":".join(f"{dice.randrange(256):02x}" for _ in range(3)),
        fixed_ips=(FixedIp(address=address, version=4, subnet_id=NETWORK),),
    )
    return Instance(
        uuid=planned.uuid,
        project_id=project_id,
        user_id=USER,
        display_name=name,
        display_description=name,
        hostname=name,
        flavor=planned.flavor,
        created_at=planned.created_at,
        updated_at=built,
        launched_at=built,
        image_ref=IMAGE,
        availability_zone="nova",
        reservation_id=RESERVATION,
        host=planned.host,
        node=planned.host,
        launched_on=planned.host,
        vm_state=VmState.ACTIVE,
        task_state=None,
        power_state=PowerState.RUNNING,
        root_device_name="/dev/vda",
        metadata={"role": role, "number": str(planned.number)},
        security_groups=("default",),
        network_info=(vif,),
    )


def cell_row(made: Instance) -> dict[str, Any]:
    """The instance as a row of `instances`, to be inserted with many others."""
    row = {column.name: getattr(made, column.name) for column in instance_rows.columns() if column.name != "id"}
    flavor = made.flavor
    return row | {
        "vm_state": made.vm_state.value,
        "power_state": made.power_state.value,
        "flavorid": flavor.flavorid,
        "vcpus": flavor.vcpus,
        "memory_mb": flavor.memory_mib,
        "root_gb": flavor.root_gib,
        "ephemeral_gb": flavor.ephemeral_gib,
    }


def action_row(made: Instance) -> dict[str, Any]:
    """The row of `instance_actions` about its creation."""
    return {
        "instance_uuid": made.uuid, "action": "create", "request_id": f"req-{made.uuid}", "user_id": made.user_id,
        "project_id": made.project_id, "start_time": made.created_at, "finish_time": made.launched_at,
        "created_at": made.created_at, "updated_at": made.launched_at,
    }  # fmt: skip


def mapping(made: Instance, cell: CellMapping) -> InstanceMapping:
    return InstanceMapping(
        instance_uuid=made.uuid, project_id=made.project_id, user_id=made.user_id, created_at=made.created_at,
        display_name=made.display_name, vcpus=made.flavor.vcpus, memory_mb=made.flavor.memory_mib, cell_id=cell.id,
    )  # fmt: skip


def spec(made: Instance) -> RequestSpec:
    return RequestSpec(
        instance_uuid=made.uuid, project_id=made.project_id, user_id=made.user_id, flavor=made.flavor,
        image_id=made.image_ref, availability_zone=made.availability_zone,
    )  # fmt: skip


def claim(planned: Planned, project_id: str) -> Claim:
    return Claim(
        consumer_uuid=planned.uuid, allocations={provider_uuid(planned.host): planned.amounts}, project_id=project_id,
        user_id=USER, consumer_type="INSTANCE", generation=None,
    )  # fmt: skip


def host_totals(planned: Sequence[Planned]) -> dict[str, dict[str, int]]:
    """Host → resource class → what its instances take together."""
    totals: dict[str, dict[str, int]] = {}
    for each in planned:
        total = totals.setdefault(each.host, {})
        for name, amount in each.amounts.items():
            total[name] = total.get(name, 0) + amount
    return totals
