"""Errors of the Placement API and of allocations."""

from __future__ import annotations

from cell_service.errors.families import Conflict, Invalid, NotFound


class BadQuery(Invalid):
    """A query parameter of the Placement API has an impossible value."""

    code = "placement.query.bad_value"


class RepeatedQuery(Invalid):
    code = "placement.query.duplicate_key"


class MissingQuery(Invalid):
    code = "placement.query.missing_value"


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


class GenerationConflict(Conflict):
    """A resource provider or consumer changed since the caller read it."""

    message = "{what} generation conflict"
    code = "placement.concurrent_update"


class ProviderChanged(GenerationConflict):
    """The same, said to clients that put a provider's traits or aggregates."""

    message = "Resource provider's generation already changed. Please update the generation and try again."


class InventoriesOfNone(Invalid):
    """A reshape has inventories for a provider that there is not."""

    message = "Resource provider {uuid} in inventories not found: No resource provider with uuid {uuid} found"
    code = "placement.resource_provider.not_found"


class ReshapeConflict(GenerationConflict):
    message = "resource provider generation conflict for provider {uuid}: actual: {actual}, given: {given}"


class ConsumerChanged(GenerationConflict):
    message = "consumer generation conflict - expected {expected} but got {got}"


class PlacementNameTaken(Conflict):
    """A resource provider, resource class or other name of placement's is taken."""

    message = "{what} already exists: {name}."
    code = "placement.duplicate_name"


class ProviderTaken(PlacementNameTaken):
    """Another provider has this name or uuid (`what`)."""

    message = "Conflicting resource provider {what}: {name} already exists."


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
    message = "Error in delete resource class: Cannot delete resource class {name}: Class is in use in inventory."


class TraitInUse(Conflict):
    message = "The trait {name} is in use by a resource provider."


class InventoryExceeded(Conflict):
    """An allocation asks for more than is free; nothing was allocated."""

    message = (
        "Unable to allocate inventory: Unable to create allocation for '{resource_class}' "
        "on resource provider '{provider}'. {reason}"
    )
