"""The guest agent of an instance, as the properties of the image that it was made from describe it."""

from __future__ import annotations

from enum import Enum

from oslo_utils.strutils import bool_from_string

from cell_service.errors import GuestAgentNotEnabled, PolycellError, QuiesceImpossible
from cell_service.model.instance import Instance
from cell_service.model.lifecycle import VmState


class Quiesce(Enum):
    """Whether a guest's file systems are frozen for the moment at which its disks are copied."""

    NO = "no"
    IF_POSSIBLE = "if possible"
    """A copy without is better than none."""
    REQUIRED = "required"
    """There is no copy without."""


def has_agent(instance: Instance) -> bool:
    """Whether the guest has a guest agent (image property hw_qemu_guest_agent)."""
    return _is_yes(instance, "hw_qemu_guest_agent")


def quiesce_of(instance: Instance) -> Quiesce:
    """Whether the instance is to be quiesced when its disks are copied (image property os_require_quiesce)."""
    if _is_yes(instance, "os_require_quiesce"):
        return Quiesce.REQUIRED
    return Quiesce.IF_POSSIBLE if has_agent(instance) else Quiesce.NO


def lacks_agent(instance: Instance) -> PolycellError | None:
    """The refusal of an action that needs an agent; None where there is one."""
    return None if has_agent(instance) else GuestAgentNotEnabled(instance_uuid=instance.uuid)


def cannot_be_quiesced(instance: Instance) -> PolycellError | None:
    """The refusal of a copy that has to be quiesced and can't be; None for one that is possible."""
    if quiesce_of(instance) is not Quiesce.REQUIRED:
        return None
    if instance.vm_state is VmState.PAUSED:
        return QuiesceImpossible(instance_uuid=instance.uuid, why="it is paused")
    if instance.vm_state is VmState.ACTIVE and not has_agent(instance):
        return QuiesceImpossible(instance_uuid=instance.uuid, why="the QEMU guest agent is not enabled")
    return None


def _is_yes(instance: Instance, name: str) -> bool:
    return bool(bool_from_string(instance.system_metadata.get(f"image_{name}", "")))
