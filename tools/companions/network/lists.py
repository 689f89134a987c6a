"""Lists of the Network API: filters, order and pages."""

from __future__ import annotations

from collections.abc import Mapping

from tools.companions.network import store
from tools.companions.network.errors import bad
from tools.companions.network.nouns import Record
from tools.companions.route import CompanionRequest

LONGEST_LIMIT = 18
"""Digits; longer numbers are refused."""
_NO_FILTERS = ("fields", "limit", "marker", "sort_key", "sort_dir", "page_reverse")


def narrowed(req: CompanionRequest) -> dict[str, list[str]]:
    """The part of the filters that the database can apply; an id that users can't see is filtered later."""
    found = {}
    for name, values in req.query.items():
        column = "project_id" if name == "tenant_id" else name
        if store.searchable(column):
            found[column] = values
    return found


def fits(record: Record, query: Mapping[str, list[str]]) -> bool:
    """Whether the record matches the query."""
    return all(name in _NO_FILTERS or _matches(record, name, values) for name, values in query.items())


def _matches(record: Record, name: str, values: list[str]) -> bool:
    """Whether an attribute has one of these values; attributes that do not exist are no filters."""
    if name in ("tags", "tags-any", "not-tags", "not-tags-any"):
        requested = {part for value in values for part in value.split(",")}
        has = set(record["tags"])
        met = bool(requested & has) if name.endswith("-any") else requested <= has
        return met != name.startswith("not-")
    if name == "fixed_ips":
        pairs = [value.partition("=") for value in values]
        return any(
            all(ip.get(key) == text for key, _, text in pairs if key in ("ip_address", "subnet_id"))
            for ip in record.get("fixed_ips", ())
        )
    if name not in record:
        return True
    actual = record[name]
    if isinstance(actual, bool):
        return str(actual).lower() in [value.lower() for value in values]
    if isinstance(actual, list):
        return any(value in actual for value in values)
    return ("" if actual is None else str(actual)) in values


def in_order(req: CompanionRequest, shown: list[Record]) -> list[Record]:
    """The records in the order of the requested keys and directions, the first before the second."""
    directions = req.query.get("sort_dir", [])
    for at, key in reversed(list(enumerate(req.query.get("sort_key", [])))):
        down = (directions[at] if at < len(directions) else "asc") == "desc"
        shown = sorted(shown, key=lambda record: str(record.get(key) or ""), reverse=down)
    return shown


def page(req: CompanionRequest, shown: list[Record]) -> tuple[list[Record], list[dict[str, str]]]:
    """The records after the marker, up to the limit, and the link to the next page. Raises Invalid."""
    limit_text, marker = req.one("limit"), req.one("marker")
    if marker is not None:
        places = [at for at, record in enumerate(shown) if record["id"] == marker]
        if not places:
            raise bad(f"The marker {marker} could not be found.", "HTTPBadRequest")
        shown = shown[places[0] + 1 :]
    if limit_text is None:
        return shown, []
    if not limit_text.isdigit() or len(limit_text) > LONGEST_LIMIT:
        raise bad(f"Limit must be an integer 0 or greater and not '{limit_text}'", "HTTPBadRequest")
    limit = int(limit_text)
    if not limit or len(shown) <= limit:
        return shown, []
    rest = [f"{name}={value}" for name, values in req.query.items() if name != "marker" for value in values]
    href = f"{req.origin}{req.path}?{'&'.join([*rest, 'marker=' + shown[limit - 1]['id']])}"
    return shown[:limit], [{"rel": "next", "href": href}]
