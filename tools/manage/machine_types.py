"""`libvirt`: the machine types that are recorded of guests, so that a guest stays what it was made as."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, select

from cell_service.context import Deadline
from cell_service.db import instances
from cell_service.db.schema import instances as table
from cell_service.errors import CellMappingNotFound, InstanceNotFound
from cell_service.model.instance import MACHINE_TYPE
from cell_service.model.lifecycle import VmState
from mapping_db import cell_mappings
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud
from tools.manage.cloud import COMMAND_SECONDS, cell_of_instance
from tools.manage.command import Args, arg, command
from tools.manage.named_cells import HELP
from tools.manage.out import Out

_BATCH = 500
_STATES = (VmState.STOPPED, VmState.SHELVED, VmState.SHELVED_OFFLOADED)
_TYPE = re.compile(
    r"(?P<family>pc-i440fx|pc-q35|pc|q35|virt|s390-ccw-virtio)(?:-(?P<maker>[a-z]*)(?P<version>\d+(?:\.\d+)+))?"
)


@dataclass(frozen=True, slots=True)
class MachineType:
    """A machine type: the name of a family, which is an alias of its newest member, or a member of it."""

    family: str
    maker: str = ""
    version: tuple[int, ...] = ()


@command("libvirt get_machine_type", arg("instance_uuid", metavar="UUID", help="of the instance"), reads=True)
def get_machine_type(cloud: Cloud, args: Args, out: Out) -> int:
    """Print the machine type that is recorded of an instance. 0 printed; 2 no such instance; 3 none is recorded."""
    cell = cell_of_instance(cloud, args.instance_uuid)
    try:
        if cell is None:
            raise InstanceNotFound(instance_id=args.instance_uuid)
        with cell.db.connect(_deadline(cloud)) as tx:
            found = instances.get(tx, args.instance_uuid).system_metadata.get(MACHINE_TYPE)
    except InstanceNotFound as error:
        out.warn(str(error))
        return 2
    if not found:
        out.warn(f"No machine type is recorded of instance {args.instance_uuid}.")
        return 3
    out.value(found, uuid=args.instance_uuid, machine_type=found)
    return 0


@command("libvirt update_machine_type", arg("instance_uuid", metavar="UUID", help="of the instance"),
         arg("machine_type", metavar="TYPE", help="such as pc-q35-7.2"),
         arg("--force", flag=True, help="any type, in any state; the guest may not start with it"))  # fmt: skip
def update_machine_type(cloud: Cloud, args: Args, out: Out) -> int:
    """Record another machine type of an instance that is stopped or shelved; its guest has it from its next start on. 0
    recorded; 2 no such instance; 3 it is in another state; 4 the type is of another family, older, or the one an alias
    and the other a version; 5 the type is not supported."""
    wanted = parsed(args.machine_type)
    if wanted is None and not args.force:
        out.warn(f"Machine type {args.machine_type} is not supported.")
        return 5
    cell = cell_of_instance(cloud, args.instance_uuid)
    try:
        if cell is None:
            raise InstanceNotFound(instance_id=args.instance_uuid)
        code, text = _update(cloud, cell, args.instance_uuid, args.machine_type, wanted, force=args.force)
    except InstanceNotFound as error:
        out.warn(str(error))
        return 2
    if code:
        out.warn(text)
    else:
        out.value(text, uuid=args.instance_uuid, machine_type=args.machine_type)
    return code


@command("libvirt list_unset_machine_type",
         arg("--cell_uuid", metavar="CELL", help=f"only instances of this cell: {HELP}"), reads=True)  # fmt: skip
def list_unset_machine_type(cloud: Cloud, args: Args, out: Out) -> int:
    """List the instances that have a guest and no recorded machine type: hosts with libvirt record it at the next
    start, stop or reboot. 0 there are none; 2 no such cell; 3 there are some."""
    with cloud.db.connect() as tx:
        cells = [cell for cell in cell_mappings.every(tx) if not cell.is_cell0]
    if args.cell_uuid:
        cells = [cell for cell in cells if cell.uuid == args.cell_uuid]
        if not cells:
            out.warn(str(CellMappingNotFound(cell=args.cell_uuid)))
            return 2
    found = [
        (uuid, cell.name or None, cell.uuid) for cell in cells for uuid in _unset(cloud, cloud.cells.open(cell.id))
    ]
    out.table(("uuid", "cell_name", "cell_uuid"), found)
    return 3 if found else 0


def parsed(text: str) -> MachineType | None:
    """None for a type that is not supported."""
    match = _TYPE.fullmatch(text)
    if match is None:
        return None
    version = tuple(int(part) for part in match["version"].split(".")) if match["version"] else ()
    return MachineType(match["family"], match["maker"] or "", version)


def may_follow(old: MachineType, new: MachineType) -> bool:
    """Whether a guest of the old type may become one of the new type: an alias only itself, a version a newer one."""
    return (old.family, old.maker, bool(old.version)) == (new.family, new.maker, bool(new.version)) and (
        new.version >= old.version
    )


def _update(
    cloud: Cloud, cell: Cell, uuid: str, text: str, wanted: MachineType | None, *, force: bool
) -> tuple[int, str]:
    """The exit code, and what is to be said. Raises InstanceNotFound."""

    def work(tx: Connection) -> tuple[int, str]:
        instance = instances.get_locked(tx, uuid)
        known = instance.system_metadata.get(MACHINE_TYPE, "")
        if not force:
            if instance.vm_state not in _STATES or instance.task_state is not None:
                return 3, f"Instance {uuid} is {instance.vm_state.value}, and neither stopped nor shelved."
            old = parsed(known)
            if known and (old is None or wanted is None or not may_follow(old, wanted)):
                return 4, f"Machine type {text} cannot follow {known}."
        changed = {**instance.system_metadata, MACHINE_TYPE: text}
        instances.change(tx, uuid, now=cloud.clock.now(), system_metadata=changed)
        return 0, f"Instance {uuid} has machine type {text}, after {known or 'none'}."

    return cell.db.run(work, _deadline(cloud))


def _unset(cloud: Cloud, cell: Cell) -> Iterator[str]:
    last = 0
    columns = (table.c.id, table.c.uuid, table.c.system_metadata)
    made = table.c.deleted_at.is_(None) & (
        table.c.host.is_not(None) | (table.c.vm_state == VmState.SHELVED_OFFLOADED.value)
    )
    while True:
        # SELECT … FROM instances WHERE id > ? AND … ORDER BY id LIMIT ?
        query = select(*columns).where(made, table.c.id > last).order_by(table.c.id).limit(_BATCH)
        with cell.db.connect(_deadline(cloud)) as tx:
            page = tx.execute(query).all()
        if not page:
            return
        yield from (row.uuid for row in page if not row.system_metadata.get(MACHINE_TYPE))
        last = page[-1].id


def _deadline(cloud: Cloud) -> Deadline:
    return Deadline.after(COMMAND_SECONDS, cloud.clock)
