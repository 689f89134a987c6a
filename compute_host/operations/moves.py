"""What a host does for a move: the errands of cell_service.model.operation, whose contract stands there.

Each may be done again after a restart in the middle of it. None changes ports, allocations or the instance's state
beyond what its name says: whoever runs the move reads the result and decides.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

from cell_service import wire
from cell_service.errors import NotSupported
from cell_service.model.instance import Flavor
from cell_service.model.lifecycle import PowerState
from cell_service.model.operation import IMAGE, IMAGE_GONE, PARTS_IN, PARTS_OUT, PORTS_OUT, BuildArguments, Outcome
from compute_host.operations import leftovers, shares, volumes
from compute_host.operations.context import HostContext, Job, from_images, outcome_of, spec_of
from compute_host.operations.shelve import forget_image
from compute_host.virt.driver import Driver, Movable

HALTED = (PowerState.SHUTDOWN, PowerState.CRASHED, PowerState.NOSTATE)


def move_out(context: HostContext, job: Job) -> Outcome:
    """`was_running`: what the guest did before it was turned off for the move, also when this is done again."""
    movable, uuid, asked = _movable(context.driver), job.instance.uuid, _arguments(job)
    now = context.driver.power_state(uuid)
    was_running = PowerState.RUNNING in (now, job.instance.power_state)
    job.check()
    if asked.get("live"):
        luggage = movable.send(uuid)
    else:
        if now not in HALTED:
            graceful = context.shutdown_seconds if asked.get("shutdown", True) else 0
            context.driver.power_off(uuid, graceful_seconds=graceful)
            job.check()
        luggage = movable.pack(uuid)
    return replace(outcome_of(context, job), result={"luggage": luggage, "was_running": was_running})


def move_in(context: HostContext, job: Job) -> Outcome:
    """With luggage from what another host gave; without from the instance's image, config drive and all."""
    movable, asked = _movable(context.driver), _arguments(job)
    job = volumes.bring(context, _here(context, job, asked))
    luggage = asked.get("luggage") or None
    with contextlib.ExitStack() as held:
        if luggage is None:
            made_of = BuildArguments(admin_password=asked.get("admin_password") or "", cell=asked.get("cell") or "")
            spec = from_images(context, job, spec_of(context, job, build=made_of), held, asked.get(IMAGE))
        else:
            spec = spec_of(context, job)
        job.check()
        movable.receive(spec, luggage)
    return outcome_of(context, job)


def move_run(context: HostContext, job: Job) -> Outcome:
    """Ports first: a guest that runs here answers here. At the source it is how a move is undone."""
    movable, asked = _movable(context.driver), _arguments(job)
    job = volumes.bring(context, _here(context, job, asked))
    vifs = None
    if context.networks is not None and job.instance.network_info:
        vifs = context.networks.bind(job.ctx, job.instance.uuid, context.host)
    job.check()
    spec, luggage = spec_of(context, job, vifs), asked.get("luggage") or None
    if asked.get("live") and luggage is not None:
        movable.arrive(spec, luggage)
    elif asked.get("run"):
        context.driver.power_on(spec)
    volumes.complete(context, job)
    gone = forget_image(context, job, asked.get(IMAGE))
    done = outcome_of(context, job, network_info=vifs)
    return replace(done, devices=job.instance.block_devices, result={IMAGE_GONE: gone})


def move_drop(context: HostContext, job: Job) -> Outcome:
    """Nothing of the guest is left here, or of what its instance lost while this host was down. Nothing else is
    released: a shelved instance keeps its volumes reserved."""
    if {PARTS_OUT, PARTS_IN, PORTS_OUT} & _arguments(job).keys():
        return leftovers.clear(context, job)
    context.driver.destroy(job.instance.uuid)
    shares.leave(context, job)
    devices = volumes.leave_to_its_owner(context, job)
    operation = job.work.operation
    return Outcome(operation.id, operation.fence, power_state=PowerState.NOSTATE, devices=devices)


def _movable(driver: Driver) -> Movable:
    """Raises NotSupported."""
    if not isinstance(driver, Movable):
        raise NotSupported(reason="Guests of this host cannot move.")
    return driver


def _arguments(job: Job) -> dict[str, Any]:
    return job.work.operation.arguments


def _here(context: HostContext, job: Job, asked: dict[str, Any]) -> Job:
    """The job with the instance as it will be on this host."""
    flavor = asked.get("flavor")
    instance = replace(job.instance, host=context.host)
    if flavor:
        instance = replace(instance, flavor=wire.from_plain(Flavor, flavor))
    return replace(job, work=replace(job.work, instance=instance))
