"""Refusals in the network service's own words."""

from __future__ import annotations

from typing import Any

from cell_service.errors import Conflict, Invalid, NotFound, PolycellError


def refusal(family: type[PolycellError], kind: str, message: str) -> PolycellError:
    return family(reason=message, kind=kind)


def not_found(noun: str, record_id: str) -> PolycellError:
    words = noun.replace("_", " ").capitalize().replace("Qos", "QoS")
    kind = "".join(part.capitalize() for part in noun.split("_")) + "NotFound"
    return refusal(NotFound, kind, f"{words} {record_id} could not be found.")


def in_use(noun: str, record_id: str, message: str) -> PolycellError:
    kind = "".join(part.capitalize() for part in noun.split("_")) + "InUse"
    return refusal(Conflict, kind, f"Unable to complete operation on {noun} {record_id}. {message}")


def bad(message: str, kind: str = "InvalidInput") -> PolycellError:
    return refusal(Invalid, kind, message)


def rendered(status: int, kind: str, message: str) -> dict[str, Any]:
    names = {"NotFound": "HTTPNotFound", "Invalid": "HTTPBadRequest", "Conflict": "HTTPConflict"}
    return {"NeutronError": {"type": names.get(kind, kind), "message": message, "detail": ""}}
