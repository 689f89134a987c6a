"""The agents of simulated guests: a guest has one when its image says so, and it works unless a fault is configured for
the verb."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from cell_service.errors import DriverError, GuestNotFound
from cell_service.logs import about
from cell_service.model.guest_agent import Quiesce, lacks_agent
from cell_service.model.instance import Instance
from cell_service.model.lifecycle import PowerState
from compute_host.virt.simulated.guests import Guests

log = logging.getLogger(__name__)

FROZEN, THAWED = "file systems frozen", "file systems thawed"


def demand(instance: Instance) -> None:
    """Raises GuestAgentNotEnabled."""
    if (refusal := lacks_agent(instance)) is not None:
        raise refusal


@contextlib.contextmanager
def quiesced(guests: Guests, uuid: str, how: Quiesce) -> Iterator[None]:
    """See `virt.driver.Quiescing`. The guest's console says so."""
    frozen = _freeze(guests, uuid, how)
    try:
        yield
    finally:
        if frozen:
            with contextlib.suppress(DriverError):  # it has gone off meanwhile
                guests.remark("thaw", uuid, THAWED)


def _freeze(guests: Guests, uuid: str, how: Quiesce) -> bool:
    """Whether the guest's file systems are frozen. Raises GuestNotFound, DriverError."""
    state = guests.made(uuid).power_state
    if how is Quiesce.NO or state not in (PowerState.RUNNING, PowerState.PAUSED):
        return False
    try:
        if state is PowerState.PAUSED:
            raise DriverError(reason="The guest is paused: its agent cannot freeze its file systems.")
        guests.remark("quiesce", uuid, FROZEN)
    except GuestNotFound:
        raise
    except DriverError as error:
        if how is Quiesce.REQUIRED:
            raise
        log.warning("guest copied without being quiesced", extra=about(None, instance=uuid, reason=error))
        return False
    return True
