"""Every error that crosses a function's edge, by what the caller can do about it.

    PolycellError
    ├── Invalid (400)       send another request
    ├── Unauthenticated (401)
    ├── Forbidden (403)     another account may
    │   └── OverQuota
    ├── NotFound (404)      it is not there
    ├── BadMethod (405)
    ├── NotAcceptable (406)
    ├── Conflict (409)      not now, not in this state
    ├── Gone (410)          it was once, and never will be again
    ├── TooLarge (413)
    ├── UnsupportedMedia (415)
    ├── NotSupported (501)
    └── Unavailable (503)   try again later

An error has named fields; its message is made from them. The REST edge needs nothing else to answer: the
family has a status. Errors also travel over the queue by class name and fields (see rpc.wire).
"""

from __future__ import annotations

from typing import Any, ClassVar


class PolycellError(Exception):
    """Base of all our errors. `message` is a template over the named fields."""

    status: ClassVar[int] = 500
    message: ClassVar[str] = "Unexpected error."
    code: ClassVar[str] = "placement.undefined_code"
    """The Placement API's code of this error (from its version 1.23)."""
    public: ClassVar[str | None] = None
    """The message for users where `message` has internals that only the operator's log may have."""

    def __init__(self, **fields: object) -> None:
        self.fields: dict[str, Any] = fields
        super().__init__(self.message.format_map(fields) if fields else self.message)

    def for_users(self) -> str:
        """The message as users may read it."""
        return self.public if self.public is not None else str(self)


class Invalid(PolycellError):
    """The request cannot be done as it was sent."""

    status = 400
    message = "{reason}"


class Unauthenticated(PolycellError):
    status = 401
    message = "The request you have made requires authentication."


class Forbidden(PolycellError):
    status = 403
    message = "{reason}"


class PolicyForbidden(Forbidden):
    message = "Policy doesn't allow {rule} to be performed."


class OverQuota(Forbidden):
    """A project would exceed a quota. `resources` is a comma-separated list, in the order of the request."""

    message = "Quota exceeded for {resources}: Requested {requested}, but already used {used} of {limit} {resources}"


class LimitExceeded(Forbidden):
    """A limit on one object's size (metadata items, tags, files) would be exceeded."""

    message = "{reason}"


class NotFound(PolycellError):
    status = 404
    message = "{reason}"


class BadMethod(PolycellError):
    """The path exists, but not with this method; `allow` lists those it has."""

    status = 405
    message = "The method {method} is not allowed here. Allowed: {allow}."


class NotAcceptable(PolycellError):
    """A microversion that is not served."""

    status = 406
    message = "{reason}"


class Conflict(PolycellError):
    status = 409
    message = "{reason}"


class StillBeingDone(Conflict):
    message = "The first request with this Idempotency-Key has not been answered: look whether it did what it should."


class IdempotencyKeyReused(PolycellError):
    status = 422
    message = "The Idempotency-Key was used for another request."


class TooManyRequests(PolycellError):
    status = 429
    message = "The project sends too many requests. Try again later."


class Gone(PolycellError):
    """A part of the API that no version serves any more."""

    status = 410
    message = "This resource is no longer available. No forwarding address is given."


class TooLarge(PolycellError):
    status = 413
    message = "Request is too large."


class UnsupportedMedia(PolycellError):
    status = 415
    message = "Unsupported Content-Type {content_type}; send application/json."


class NotSupported(PolycellError):
    status = 501
    message = "{reason}"


class NotImplementedByHost(NotSupported):
    """As UnableToDo, for the actions whose published answers have 501."""

    message = "The host of instance {instance_uuid} cannot {what}."


class ForbiddenByHost(Forbidden):
    """As UnableToDo, for actions whose published answer is 403."""

    message = "The host of instance {instance_uuid} cannot {what}."


class UnableToDo(Conflict):
    """The hypervisor of the instance's host lacks the ability that an action needs."""

    message = "The host of instance {instance_uuid} cannot {what}."


_INTERNAL = "A part of the service does not answer at the moment. Please try again later."


class Unavailable(PolycellError):
    """Something we need does not answer. `retry_after` (seconds) may be among the fields."""

    status = 503
    message = "{reason}"


class BadQuery(Invalid):
    """A query parameter of the Placement API has an impossible value."""

    code = "placement.query.bad_value"


class RepeatedQuery(Invalid):
    code = "placement.query.duplicate_key"


class MissingQuery(Invalid):
    code = "placement.query.missing_value"


# -- what is not there ------------------------------------------------------------------------


class InstanceNotFound(NotFound):
    message = "Instance {instance_id} could not be found."


class FlavorNotFound(NotFound):
    message = "Flavor {flavor_id} could not be found."


class FlavorExtraSpecNotFound(NotFound):
    message = "Flavor {flavor_id} has no extra specs with key {key}."


class FlavorAccessNotFound(NotFound):
    message = "Flavor access not found for {flavor_id} / {project_id} combination."


class VolumeNotFound(NotFound):
    message = "Volume {volume_id} could not be found."


class SnapshotNotFound(NotFound):
    message = "Snapshot {snapshot_id} could not be found."


class VolumeUnavailable(Invalid):
    """A volume whose status does not allow the request."""

    message = "Invalid volume: volume {volume_id}: {reason}"


class VolumeEncryptionNotSupported(Invalid):
    """No host can read or write an encrypted volume: what it wrote would be in clear."""

    message = "Volume encryption is not supported for {volume_type} volume {volume_id}"


class ImageNotFound(NotFound):
    message = "Image {image_id} could not be found."


class ShareNotFound(NotFound):
    message = "Share {share_id} could not be found."


class ShareMappingNotFound(NotFound):
    message = "Share {share_id} is not attached to instance {instance_uuid}."


class ConsoleTokenNotFound(NotFound):
    message = "Token not found"


class ConsoleTypeUnavailable(Invalid):
    message = "Unavailable console type {console_type}."


class ConsoleTypeHidden(Unauthenticated):
    message = "The requested console type details are not accessible"


class KeypairNotFound(NotFound):
    message = "Keypair {name} not found for user {user_id}"


class NetworkNotFound(NotFound):
    message = "Network {network_id} could not be found."


class PortNotFound(NotFound):
    message = "Port id {port_id} could not be found."


class SecurityGroupNotFound(NotFound):
    message = "Security group {name} not found for project {project_id}."


class ServiceNotFound(NotFound):
    message = "Service {service_id} could not be found."


class ComputeHostNotFound(NotFound):
    message = "Compute host {host} could not be found."


class HostMappingNotFound(NotFound):
    message = "Host '{host}' is not mapped to any cell"


class CellMappingNotFound(NotFound):
    message = "Cell {cell} doesn't exist."


class InstanceMappingNotFound(NotFound):
    message = "Instance {instance_uuid} has no mapping to a cell."


class ServerGroupNotFound(NotFound):
    message = "Instance group {group_uuid} could not be found."


class ActionNotFound(NotFound):
    message = "Action for request_id {request_id} on instance {instance_uuid} not found"


class MigrationNotFoundForServer(NotFound):
    message = "Live migration {migration_id} of server {instance_uuid} is not in progress."


class TagNotFound(NotFound):
    message = "Instance {instance_uuid} has no tag '{tag}'"


class MetadataItemNotFound(NotFound):
    message = "Metadata item was not found"


class ResourceProviderNotFound(NotFound):
    message = "No resource provider with uuid {uuid} found"
    code = "placement.resource_provider.not_found"


class ResourceClassNotFound(NotFound):
    message = "No such resource class {name}."


class TraitNotFound(NotFound):
    message = "No such trait(s): {names}."


class InventoryNotFound(NotFound):
    message = "No inventory of class {resource_class} for {uuid}"


class ConsumerNotFound(NotFound):
    message = "No allocations for consumer '{uuid}'"


class AggregateNotFound(NotFound):
    message = "Aggregate {aggregate_id} could not be found."


class AggregateHostNotFound(NotFound):
    message = "Aggregate {aggregate_id} has no host {host}."


# -- what cannot be now -----------------------------------------------------------------------


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


class GenerationConflict(Conflict):
    """A resource provider or consumer changed since the caller read it."""

    message = "{what} generation conflict"
    code = "placement.concurrent_update"


class ProviderChanged(GenerationConflict):
    """The same, said to clients that put a provider's traits or aggregates."""

    message = "Resource provider's generation already changed. Please update the generation and try again."


class ConsumerChanged(GenerationConflict):
    message = "consumer generation conflict - expected {expected} but got {got}"


class PlacementNameTaken(Conflict):
    """A resource provider, resource class or other name of placement's is taken."""

    message = "Conflicting {what} {name} already exists."
    code = "placement.duplicate_name"


class ResourceProviderInUse(Conflict):
    message = "Unable to delete resource provider {uuid}: Resource provider has allocations."
    code = "placement.resource_provider.inuse"


class ResourceProviderHasChildren(Conflict):
    message = "Unable to delete parent resource provider {uuid}: It has child resource providers."
    code = "placement.resource_provider.cannot_delete_parent"


class InventoryInUse(Conflict):
    message = "Inventory for '{resource_classes}' on resource provider '{uuid}' in use."
    code = "placement.inventory.inuse"


class ResourceClassInUse(Conflict):
    message = "Cannot delete resource class {name}: Class is in use in inventory."


class TraitInUse(Conflict):
    message = "The trait {name} is in use by a resource provider."


class AggregateNameExists(Conflict):
    message = "Aggregate {name} already exists."


class AggregateHostExists(Conflict):
    message = "Aggregate {aggregate_id} already has host {host}."


class HostInOtherZone(Conflict):
    """A host has one availability zone; the aggregate would give it a second."""

    message = "Host {host} already belongs to availability zone {zone}."


class InventoryExceeded(Conflict):
    """An allocation asks for more than is free; nothing was allocated."""

    message = (
        "Unable to allocate inventory: Unable to create allocation for '{resource_class}' "
        "on resource provider '{provider}'. {reason}"
    )


# -- what does not answer ---------------------------------------------------------------------


class CellUnavailable(Unavailable):
    """A cell's database or queue does not answer, or its breaker is open."""

    message = "Cell {cell} is not reachable."


class InstanceInTransit(Unavailable):
    """The instance is passing from one cell to another: a matter of moments."""

    message = "Instance {instance_uuid} is just changing its cell."


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


class HostUnavailable(Conflict):
    message = "Service is unavailable at this time: host {host} is down."


# -- scheduling and building ------------------------------------------------------------------


class NoValidHost(PolycellError):
    """No host can take the instance. `reason` counts the hosts that each filter refused, and why: users see `SUMMARY`,
    and the reason is in the details of the fault, for callers who may see hosts.
    """

    SUMMARY: ClassVar[str] = "No valid host was found."
    status = 500
    message = "No valid host was found. {reason}"


class NoHostYet(NoValidHost):
    """Hosts that could take it count as down, but may only have been out of reach of their cell's conductors."""


class MaxRetriesExceeded(NoValidHost):
    message = (
        "Exceeded maximum number of retries. Exhausted all hosts available for retrying build failures "
        "for instance {instance_uuid}."
    )


class DriverError(PolycellError):
    """The hypervisor failed; another host may succeed."""

    message = "{reason}"


class InterfaceAttachFailed(PolycellError):
    message = "Failed to attach the network interface. {reason}"


class HypervisorFailed(DriverError):
    """The hypervisor's own words are for the operator."""

    public = "The hypervisor failed."


class HostOutOfSpace(DriverError):
    """The host lacks memory, CPU or disk for the guest, whatever the scheduler thought."""


class ImageUnacceptable(DriverError):
    """The image is not what it claims to be, or does not fit; no host can do better."""

    message = "Image {image_id} is unacceptable: {reason}"


class GuestNotFound(DriverError):
    """The hypervisor has no guest with this uuid."""

    message = "Guest {uuid} does not exist on this host."


class RemoteError(PolycellError):
    """The far side of a call failed with an error that is not in this tree (a bug there)."""

    message = "{kind}: {reason}"


def _tree(root: type[PolycellError]) -> dict[str, type[PolycellError]]:
    found = {root.__name__: root}
    for child in root.__subclasses__():
        found.update(_tree(child))
    return found


def by_name(name: str, fields: dict[str, Any]) -> PolycellError:
    """The error of that class name with these fields; RemoteError where there is no such class."""
    kind = _tree(PolycellError).get(name)
    if kind is None:
        return RemoteError(kind=name, reason=str(fields))
    return kind(**fields)
