"""Errors about parts of the service that do not answer, or that have to end something first."""

from __future__ import annotations

from cell_service.errors.families import Unavailable

_INTERNAL = "A part of the service does not answer at the moment. Please try again later."


class CellUnavailable(Unavailable):
    """A cell's database or queue does not answer, or its breaker is open."""

    message = "Cell {cell} is not reachable."


class InstanceInTransit(Unavailable):
    """The instance is passing from one cell to another: a matter of moments."""

    message = "Instance {instance_uuid} is just changing its cell."


class ConsoleRefused(Unavailable):
    """A guest's console and its proxy do not agree on security."""

    message = "{reason}"


class UnknownSteps(Unavailable):
    """Another version has recorded steps of the move that this one does not know; that version continues the move."""

    public = _INTERNAL
    message = "Steps of move {move_uuid} are not known here: {steps}"


class MoveNotSettled(Unavailable):
    """The move is about to wait for its confirmation: a matter of moments."""

    message = "The move of instance {instance_uuid} is about to wait for its conclusion."


class StillNeeded(Unavailable):
    """An earlier move of the instance has to end first."""

    message = "Something is still to be removed for an earlier move of instance {instance_uuid}."


class DatabaseUnavailable(Unavailable):
    public = _INTERNAL
    message = "The database can't be used: {reason}"


class SchemaMissing(DatabaseUnavailable):
    """A table or a column is missing: the database was not synced, or not since this version was installed."""

    message = "The database has no schema yet, or one that is older than this version: {reason}"


class SecretsUnreadable(Unavailable):
    """A sealed secret, or the key that it was sealed with, can't be opened with the keys that this process has."""

    public = _INTERNAL
    message = "A secret of the database cannot be opened: {reason}"


class QueueUnavailable(Unavailable):
    public = _INTERNAL
    message = "The message queue can't be used: {reason}"


class NoConsumer(Unavailable):
    """A message had no queue to go to: no process has ever served that topic."""

    public = _INTERNAL
    message = "Nobody listens on {topic}."


class DeadlineExceeded(Unavailable):
    message = "No answer in time from {peer}."


class WiringFailed(Unavailable):
    """Links, addresses or rules of a network can't be made on this machine."""

    public = _INTERNAL
    message = "The network can't be wired: {reason}"


class PeerUnavailable(Unavailable):
    """Identity, image, network, volume or placement service does not answer."""

    message = "The {service} service does not answer: {reason}"


class NotYet(Unavailable):
    """A host can neither finish nor undo now what it has begun: it tries again later."""

    public = _INTERNAL
    message = "Not yet: {reason}"
