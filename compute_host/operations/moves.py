"""A host's tasks in a move (`cell_service.operations.host_tasks` declares what each results in).

Each function may run again after a restart in the middle of it. None changes ports, allocations or the instance's state
beyond what its name says: the super-conductor that runs the move reads the result and decides.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace

from cell_service.errors import NotSupported
from cell_service.model.instance import Flavor
from cell_service.model.lifecycle import PowerState
from cell_service.model.operation import BuildArguments, Outcome
from cell_service.operations.host_tasks import (
    ActivateArguments,
    ActivateResult,
    CleanUpArguments,
    PrepareDestinationArguments,
    PrepareSourceArguments,
    PrepareSourceResult,
)
from compute_host.operations import leftovers, shares, volumes
from compute_host.operations.context import HostContext, OperationContext, from_images, outcome_of, spec_of
from compute_host.operations.shelve import forget_image
from compute_host.virt.driver import Driver, Movable, Receiving, Resizable

HALTED = (PowerState.SHUTDOWN, PowerState.CRASHED, PowerState.NOSTATE)


def prepare_source(context: HostContext, work: OperationContext, arguments: PrepareSourceArguments) -> Outcome:
    """`was_running`: whether the guest ran before it was turned off for the move, also when this runs again."""
    resizable, uuid = _resizable(context.driver), work.instance.uuid
    now = context.driver.power_state(uuid)
    was_running = PowerState.RUNNING in (now, work.instance.power_state)
    work.check()
    if arguments.live:
        migrate_data = _movable(context.driver).send(uuid)
    else:
        if now not in HALTED:
            graceful = context.shutdown_seconds if arguments.shutdown else 0
            context.driver.power_off(uuid, graceful_seconds=graceful)
            work.check()
        migrate_data = resizable.pack(uuid)
    return outcome_of(context, work, result=PrepareSourceResult(migrate_data, was_running))


def prepare_destination(
    context: HostContext, work: OperationContext, arguments: PrepareDestinationArguments
) -> Outcome:
    """Make the guest from another host's migrate data; without any, from the instance's image, with a config drive."""
    receiving = _receiving(context.driver)
    work = volumes.bring(context, _here(context, work, arguments.flavor))
    migrate_data = arguments.migrate_data or None
    with contextlib.ExitStack() as files:
        if migrate_data is None:
            made_of = BuildArguments(admin_password=arguments.admin_password, cell=arguments.cell or "")
            spec = from_images(context, work, spec_of(context, work, build=made_of), files, arguments.image)
        else:
            spec = spec_of(context, work)
        work.check()
        receiving.receive(spec, migrate_data)
    return outcome_of(context, work)


def activate(context: HostContext, work: OperationContext, arguments: ActivateArguments) -> Outcome:
    """Bind the ports before the guest runs, so that it has its network. At the source this undoes a move."""
    work = volumes.bring(context, _here(context, work, arguments.flavor))
    vifs = None
    if context.networks is not None and work.instance.network_info:
        vifs = context.networks.bind(work.ctx, work.instance.uuid, context.host, project_id=work.instance.project_id)
    work.check()
    spec, migrate_data = spec_of(context, work, vifs), arguments.migrate_data or None
    if arguments.live and migrate_data is not None:
        _movable(context.driver).arrive(spec, migrate_data)
    elif arguments.run:
        context.driver.power_on(spec)
    volumes.complete(context, work)
    gone = forget_image(context, work, arguments.image)
    done = outcome_of(context, work, network_info=vifs, result=ActivateResult(gone))
    return replace(done, devices=work.instance.block_devices)


def clean_up(context: HostContext, work: OperationContext, arguments: CleanUpArguments) -> Outcome:
    """Remove the guest here, or only what its instance lost while this host was down. Nothing else is released: a
    shelved instance keeps its volumes reserved."""
    if arguments.is_partial:
        return leftovers.clear(context, work, arguments)
    context.driver.destroy(work.instance.uuid)
    shares.leave(context, work)
    devices = volumes.leave_to_its_owner(context, work)
    operation = work.operation
    return Outcome(operation.id, operation.fence, power_state=PowerState.NOSTATE, devices=devices)


def _resizable(driver: Driver) -> Resizable:
    """Raises NotSupported."""
    if not isinstance(driver, Resizable):
        raise NotSupported(reason="Guests of this host can neither move nor be resized.")
    return driver


def _movable(driver: Driver) -> Movable:
    """Raises NotSupported."""
    if not isinstance(driver, Movable):
        raise NotSupported(reason="Guests of this host cannot move.")
    return driver


def _receiving(driver: Driver) -> Receiving:
    """Raises NotSupported."""
    if not isinstance(driver, Receiving):
        raise NotSupported(reason="This host cannot take over guests.")
    return driver


def _here(context: HostContext, work: OperationContext, flavor: Flavor | None) -> OperationContext:
    """The operation with the instance as it will be on this host."""
    instance = replace(work.instance, host=context.host)
    return work.with_instance(instance if flavor is None else replace(instance, flavor=flavor))
