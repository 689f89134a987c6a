"""All operations by the names under which they are stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cell_service.model.operation import StoredOperation
from cell_service.operations import (
    builds,
    deletes,
    guests,
    host_tasks,
    images,
    interfaces,
    power,
    rescue,
    shares,
    shelving,
    volumes,
)
from cell_service.operations.declaration import Operation
from cell_service.operations.host_tasks import EVENT

ALL: tuple[Operation[Any, Any], ...] = (
    *builds.ALL,
    *power.ALL,
    *deletes.ALL,
    *images.ALL,
    *shelving.ALL,
    *rescue.ALL,
    *guests.ALL,
    *interfaces.ALL,
    *volumes.ALL,
    *shares.ALL,
    *host_tasks.ALL,
)
OPERATIONS: dict[str, Operation[Any, Any]] = {each.name: each for each in ALL}


def declared(operation: StoredOperation) -> Operation[Any, Any]:
    """The declaration of the row's kind."""
    return OPERATIONS[operation.kind]


def names(of: Callable[[Operation[Any, Any]], bool]) -> tuple[str, ...]:
    """The stored names of the operations for which `of` is true."""
    return tuple(each.name for each in ALL if of(each))


def event_of(operation: StoredOperation) -> str | None:
    """The name of the event as which the operation shows in its instance's history, if it does."""
    return declared(operation).event or operation.arguments.get(EVENT)
