"""Errors about servers and what belongs to them: states that do not allow a request, names that are taken."""

from __future__ import annotations

from cell_service.errors.families import Conflict, Forbidden, Invalid, NotSupported, Unauthenticated


class VolumeUnavailable(Invalid):
    """A volume whose status does not allow the request."""

    message = "Invalid volume: volume {volume_id}: {reason}"


class VolumeEncryptionNotSupported(Invalid):
    """A host that can't decrypt volumes, or what is not done with encrypted ones."""

    message = "Volume encryption is not supported for {volume_type} volume {volume_id}"


class FlavorImageConflict(Invalid):
    """A flavor and an image that demand different things of one setting."""

    message = "Conflicting values for {setting} found in the flavor ({flavor_value}) and the image ({image_value})."


class ConsoleTypeUnavailable(Invalid):
    message = "Unavailable console type {console_type}."


class ConsoleTypeUnknownToGuest(ConsoleTypeUnavailable):
    """A console that the host offers, and a guest that was started without it: by an earlier version, or with other
    settings."""

    message = "Unavailable console type {console_type}. The server has none until its next hard reboot."


class ConsoleTypeHidden(Unauthenticated):
    message = "The requested console type details are not accessible"


class InstanceInvalidState(Conflict):
    message = "Cannot '{action}' instance {instance_uuid} while it is in {attribute} {state}"


class UnshelveNotOffloaded(Conflict):
    message = (
        "Specifying an availability zone or a host when unshelving server {instance_uuid} with status {state} is not "
        "supported. The server status must be SHELVED_OFFLOADED."
    )


class UnshelveHostNotInZone(Conflict):
    message = "Host {host} is not in the availability zone {zone}."


class PinnedZoneElsewhere(Conflict):
    message = "Server {instance_uuid} is in the availability zone {availability_zone}, and cannot be pinned to {zone}."


class InstanceHasShares(Conflict):
    message = "Cannot '{action}' instance {instance_uuid} while it has shares"


class ShareAttached(Conflict):
    message = "Share '{share_id}' is attached to instance {instance_uuid} already."


class ShareTagTaken(Conflict):
    message = "Another share of instance {instance_uuid} has the tag '{tag}'."


class ShareUnavailable(Conflict):
    """A share that cannot be attached as it is."""

    message = "Share {share_id} cannot be used: {reason}"


class InstanceIsLocked(Conflict):
    message = "Instance {instance_uuid} is locked"


class PasswordIsSet(Conflict):
    """The guest has posted its administrator's password already."""

    message = "The password of instance {instance_uuid} is set already."


class InstanceNotReady(Conflict):
    message = "Instance {instance_uuid} is not ready"


class AlreadyMoving(Conflict):
    """Another move of the instance has not ended."""

    message = "Instance {instance_uuid} is being moved already."


class InvalidMigrationState(Invalid):
    """The migration has not reached the required status, or is past it."""

    message = "Migration {migration_id} state of instance {instance_uuid} is {state}. Cannot {verb} it in this state."


class NotResized(Invalid):
    """The instance has no resize to confirm or to revert."""

    message = "Instance {instance_uuid} has not been resized."


class InstanceAlreadyMoved(Conflict):
    message = "Instance {instance_uuid} is no longer in cell {expected}."


class InstanceNotHere(Conflict):
    """A cell says that it does not own the instance: the caller's mapping is old."""

    message = "Instance {instance_uuid} does not belong to this cell."


class ComputeNodeTaken(Conflict):
    """A hypervisor's uuid and its host's name don't belong together: a state directory was lost or copied."""

    message = "Compute node {node} of host {host} cannot have uuid {uuid}: the name or the uuid is taken."


class OperationLost(Conflict):
    """A worker with a higher fence owns the operation by now; the caller must stop at once."""

    message = "Operation {operation_id} is no longer owned by fence {fence}."


class FlavorExists(Conflict):
    message = "Flavor with name {name} already exists."


class FlavorIdExists(Conflict):
    message = "Flavor with ID {flavor_id} already exists."


class FlavorAccessExists(Conflict):
    message = "Flavor access already exists for flavor {flavor_id} and project {project_id} combination."


class KeypairExists(Conflict):
    message = "Key pair '{name}' already exists."


class AggregateNameExists(Conflict):
    message = "Aggregate {name} already exists."


class AggregateHostExists(Conflict):
    message = "Aggregate {aggregate_id} already has host {host}."


class HostInOtherZone(Conflict):
    """A host has one availability zone; the aggregate would give it a second."""

    message = "Host {host} already belongs to availability zone {zone}."


class HostUnavailable(Conflict):
    message = "Service is unavailable at this time: host {host} is down."


class UnableToDo(Conflict):
    """The hypervisor of the instance's host lacks the ability that an action needs."""

    message = "The host of instance {instance_uuid} cannot {what}."


class HostLacksHardware(Conflict):
    """The host of the instance does not have the hardware that a new image demands."""

    message = "The host of instance {instance_uuid} {reason}."


class NotImplementedByHost(NotSupported):
    """As UnableToDo, for the actions whose published answers have 501."""

    message = UnableToDo.message


class ForbiddenByHost(Forbidden):
    """As UnableToDo, for actions whose published answer is 403."""

    message = UnableToDo.message


class GuestAgentNotEnabled(Conflict):
    """The guest has no agent; the first words are Nova's."""

    message = (
        "QEMU guest agent is not enabled: the image of instance {instance_uuid} does not have hw_qemu_guest_agent=yes."
    )


class QuiesceImpossible(Conflict):
    message = "Instance {instance_uuid} cannot be quiesced, which its image requires (os_require_quiesce=yes): {why}."
