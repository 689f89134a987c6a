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

from typing import Any

from cell_service.errors.building import (
    DriverError,
    GuestNotFound,
    HostOutOfSpace,
    HypervisorFailed,
    ImageUnacceptable,
    InterfaceAttachFailed,
    MaxRetriesExceeded,
    NoHostYet,
    NoValidHost,
)
from cell_service.errors.families import (
    BadMethod,
    Conflict,
    Forbidden,
    Gone,
    IdempotencyKeyReused,
    Invalid,
    LimitExceeded,
    NotAcceptable,
    NotFound,
    NotSupported,
    OverQuota,
    PolicyForbidden,
    PolycellError,
    StillBeingDone,
    TooLarge,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    UnsupportedMedia,
)
from cell_service.errors.missing import (
    ActionNotFound,
    AggregateHostNotFound,
    AggregateNotFound,
    CellMappingNotFound,
    ComputeHostNotFound,
    ConsoleTokenNotFound,
    FlavorAccessNotFound,
    FlavorExtraSpecNotFound,
    FlavorNotFound,
    HostMappingNotFound,
    ImageNotFound,
    InstanceMappingNotFound,
    InstanceNotFound,
    KeypairNotFound,
    MetadataItemNotFound,
    MigrationNotFoundForServer,
    NetworkNotFound,
    PortNotFound,
    SecurityGroupNotFound,
    ServerGroupNotFound,
    ServiceNotFound,
    ShareMappingNotFound,
    ShareNotFound,
    SnapshotNotFound,
    TagNotFound,
    VolumeNotFound,
)
from cell_service.errors.placement import (
    BadQuery,
    ConsumerChanged,
    ConsumerNotFound,
    GenerationConflict,
    InventoryExceeded,
    InventoryInUse,
    InventoryNotFound,
    MissingQuery,
    PlacementNameTaken,
    ProviderChanged,
    RepeatedQuery,
    ResourceClassInUse,
    ResourceClassNotFound,
    ResourceProviderHasChildren,
    ResourceProviderInUse,
    ResourceProviderNotFound,
    TraitInUse,
    TraitNotFound,
)
from cell_service.errors.servers import (
    AggregateHostExists,
    AggregateNameExists,
    AlreadyMoving,
    ComputeNodeTaken,
    ConsoleTypeHidden,
    ConsoleTypeUnavailable,
    FlavorAccessExists,
    FlavorExists,
    FlavorIdExists,
    FlavorImageConflict,
    ForbiddenByHost,
    GuestAgentNotEnabled,
    HostInOtherZone,
    HostLacksHardware,
    HostUnavailable,
    InstanceAlreadyMoved,
    InstanceHasShares,
    InstanceInvalidState,
    InstanceIsLocked,
    InstanceNotHere,
    InstanceNotReady,
    InvalidMigrationState,
    KeypairExists,
    NotImplementedByHost,
    NotResized,
    OperationLost,
    PasswordIsSet,
    PinnedZoneElsewhere,
    QuiesceImpossible,
    ShareAttached,
    ShareTagTaken,
    ShareUnavailable,
    UnableToDo,
    UnshelveHostNotInZone,
    UnshelveNotOffloaded,
    VolumeEncryptionNotSupported,
    VolumeUnavailable,
)
from cell_service.errors.unavailable import (
    CellUnavailable,
    DatabaseUnavailable,
    DeadlineExceeded,
    InstanceInTransit,
    MoveNotSettled,
    NoConsumer,
    NotYet,
    PeerUnavailable,
    QueueUnavailable,
    SchemaMissing,
    SecretsUnreadable,
    StillNeeded,
    UnknownSteps,
    WiringFailed,
)

__all__ = [
    "ActionNotFound",
    "AggregateHostExists",
    "AggregateHostNotFound",
    "AggregateNameExists",
    "AggregateNotFound",
    "AlreadyMoving",
    "BadMethod",
    "BadQuery",
    "CellMappingNotFound",
    "CellUnavailable",
    "ComputeHostNotFound",
    "ComputeNodeTaken",
    "Conflict",
    "ConsoleTokenNotFound",
    "ConsoleTypeHidden",
    "ConsoleTypeUnavailable",
    "ConsumerChanged",
    "ConsumerNotFound",
    "DatabaseUnavailable",
    "DeadlineExceeded",
    "DriverError",
    "FlavorAccessExists",
    "FlavorAccessNotFound",
    "FlavorExists",
    "FlavorExtraSpecNotFound",
    "FlavorIdExists",
    "FlavorImageConflict",
    "FlavorNotFound",
    "Forbidden",
    "ForbiddenByHost",
    "GenerationConflict",
    "Gone",
    "GuestAgentNotEnabled",
    "GuestNotFound",
    "HostInOtherZone",
    "HostLacksHardware",
    "HostMappingNotFound",
    "HostOutOfSpace",
    "HostUnavailable",
    "HypervisorFailed",
    "IdempotencyKeyReused",
    "ImageNotFound",
    "ImageUnacceptable",
    "InstanceAlreadyMoved",
    "InstanceHasShares",
    "InstanceInTransit",
    "InstanceInvalidState",
    "InstanceIsLocked",
    "InstanceMappingNotFound",
    "InstanceNotFound",
    "InstanceNotHere",
    "InstanceNotReady",
    "InterfaceAttachFailed",
    "Invalid",
    "InvalidMigrationState",
    "InventoryExceeded",
    "InventoryInUse",
    "InventoryNotFound",
    "KeypairExists",
    "KeypairNotFound",
    "LimitExceeded",
    "MaxRetriesExceeded",
    "MetadataItemNotFound",
    "MigrationNotFoundForServer",
    "MissingQuery",
    "MoveNotSettled",
    "NetworkNotFound",
    "NoConsumer",
    "NoHostYet",
    "NoValidHost",
    "NotAcceptable",
    "NotFound",
    "NotImplementedByHost",
    "NotResized",
    "NotSupported",
    "NotYet",
    "OperationLost",
    "OverQuota",
    "PasswordIsSet",
    "PeerUnavailable",
    "PinnedZoneElsewhere",
    "PlacementNameTaken",
    "PolicyForbidden",
    "PolycellError",
    "PortNotFound",
    "ProviderChanged",
    "QueueUnavailable",
    "QuiesceImpossible",
    "RemoteError",
    "RepeatedQuery",
    "ResourceClassInUse",
    "ResourceClassNotFound",
    "ResourceProviderHasChildren",
    "ResourceProviderInUse",
    "ResourceProviderNotFound",
    "SchemaMissing",
    "SecretsUnreadable",
    "SecurityGroupNotFound",
    "ServerGroupNotFound",
    "ServiceNotFound",
    "ShareAttached",
    "ShareMappingNotFound",
    "ShareNotFound",
    "ShareTagTaken",
    "ShareUnavailable",
    "SnapshotNotFound",
    "StillBeingDone",
    "StillNeeded",
    "TagNotFound",
    "TooLarge",
    "TooManyRequests",
    "TraitInUse",
    "TraitNotFound",
    "UnableToDo",
    "Unauthenticated",
    "Unavailable",
    "UnknownSteps",
    "UnshelveHostNotInZone",
    "UnshelveNotOffloaded",
    "UnsupportedMedia",
    "VolumeEncryptionNotSupported",
    "VolumeNotFound",
    "VolumeUnavailable",
    "WiringFailed",
    "by_name",
]


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
