"""Image records as the Image API shows them, checked when they come in, and chosen by a query."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from cell_service.errors import Invalid
from tools.companions.image import store
from tools.companions.route import CompanionRequest

DISK_FORMATS = ("ami", "ari", "aki", "vhd", "vhdx", "vmdk", "raw", "qcow2", "vdi", "iso", "ploop")
CONTAINER_FORMATS = ("ami", "ari", "aki", "bare", "ovf", "ova", "docker", "compressed")
VISIBILITIES = ("public", "private", "shared", "community")
READ_ONLY = ("id", "status", "size", "virtual_size", "checksum", "os_hash_algo", "os_hash_value", "created_at",
             "updated_at", "file", "self", "schema", "direct_url", "locations", "stores")  # fmt: skip
SETTABLE: dict[str, type | tuple[type, ...]] = {
    "name": (str, type(None)),
    "visibility": str,
    "protected": bool,
    "os_hidden": bool,
    "min_disk": int,
    "min_ram": int,
    "disk_format": (str, type(None)),
    "container_format": (str, type(None)),
    "owner": (str, type(None)),
    "tags": list,
}
_COMPARISONS = {
    "gt": lambda one, other: one > other,
    "gte": lambda one, other: one >= other,
    "lt": lambda one, other: one < other,
    "lte": lambda one, other: one <= other,
    "eq": lambda one, other: one == other,
    "neq": lambda one, other: one != other,
}
SORT_KEYS = (
    "name",
    "status",
    "container_format",
    "disk_format",
    "size",
    "id",
    "created_at",
    "updated_at",
    "min_disk",
    "min_ram",
)
MOST = 1000
USUAL = 25


def view(record: dict[str, Any]) -> dict[str, Any]:
    shown = {name: record[name] for name in store.PLAIN}
    return {
        **record["doc"].get("properties", {}),
        **shown,
        "tags": list(record["doc"].get("tags", ())),
        "self": f"/v2/images/{record['id']}",
        "file": f"/v2/images/{record['id']}/file",
        "schema": "/v2/schemas/image",
    }


def member_view(member: dict[str, Any]) -> dict[str, Any]:
    return member | {"schema": "/v2/schemas/member"}


def check_field(name: str, given: object) -> None:
    """Raises Invalid unless the attribute may be set to this."""
    if name in READ_ONLY:
        raise Invalid(reason=f"Attribute '{name}' is read-only.", status=403, kind="Forbidden")
    kind = SETTABLE.get(name, str)
    right = isinstance(given, kind) and not (kind is int and isinstance(given, bool))
    value: Any = given
    if not right:
        raise Invalid(reason=f"'{name}' has a value of the wrong type.")
    choices = {"visibility": VISIBILITIES, "disk_format": DISK_FORMATS, "container_format": CONTAINER_FORMATS}
    if name in choices and value is not None and value not in choices[name]:
        raise Invalid(reason=f"'{value}' is not one of {', '.join(choices[name])}.")
    if name in ("min_disk", "min_ram") and value < 0:
        raise Invalid(reason=f"'{name}' must not be negative.")
    if name == "tags" and not all(isinstance(tag, str) and 0 < len(tag) <= 255 for tag in value):
        raise Invalid(reason="Tags are strings of at most 255 characters.")
    if isinstance(value, str) and len(name) + len(value) > 65535:
        raise Invalid(reason=f"'{name}' is too long.")


def new_record(req: CompanionRequest) -> dict[str, Any]:
    """The record that a create describes. Raises Invalid, Forbidden."""
    body = req.body
    if not isinstance(body, dict):
        raise Invalid(reason="The body must be an object.")
    given = dict(body)
    image_id = given.pop("id", None)
    given.pop("locations", None)
    for name, value in given.items():
        check_field(name, value)
    if given.get("visibility") == "public" or given.get("owner", req.caller.project_id) != req.caller.project_id:
        req.demand_admin()
    moment = store.now()
    return {
        "id": _given_id(image_id),
        "name": given.get("name"),
        "status": "queued",
        "visibility": given.get("visibility", "shared"),
        "owner": given.get("owner", req.caller.project_id),
        "disk_format": given.get("disk_format"),
        "container_format": given.get("container_format"),
        "min_disk": given.get("min_disk", 0),
        "min_ram": given.get("min_ram", 0),
        "protected": given.get("protected", False),
        "os_hidden": given.get("os_hidden", False),
        "created_at": moment,
        "updated_at": moment,
        "doc": {
            "tags": sorted(set(given.get("tags", ()))),
            "properties": {name: value for name, value in given.items() if name not in SETTABLE},
        },
    }


def _given_id(image_id: Any) -> str:
    if image_id is None:
        return str(uuid4())
    try:
        return str(UUID(image_id))
    except (ValueError, TypeError, AttributeError) as error:
        raise Invalid(reason="An image's id is a uuid.") from error


def chosen(req: CompanionRequest, records: list[dict[str, Any]], shared: dict[str, str]) -> list[dict[str, Any]]:
    """The images that the caller may see and the query's filters let through. `shared`: see image_store.memberships."""
    visibility = req.one("visibility")
    if visibility is not None and visibility not in (*VISIBILITIES, "all"):
        raise Invalid(reason=f"Invalid visibility value: {visibility}")
    member_status = req.one("member_status", "accepted")
    found = []
    for record in records:
        if record["os_hidden"] is not ((req.one("os_hidden") or "false").lower() == "true"):
            continue
        if not _listed(req, record, shared, visibility, str(member_status)):
            continue
        if all(_lets_through(record, name, values) for name, values in req.query.items()):
            found.append(record)
    return found


def _listed(
    req: CompanionRequest, record: dict[str, Any], shared: dict[str, str], visibility: str | None, member_status: str
) -> bool:
    own = record["owner"] == req.caller.project_id
    if visibility not in (None, "all") and record["visibility"] != visibility:
        return False
    if own or record["visibility"] == "public" or (req.is_admin and record["visibility"] != "community"):
        return True
    if record["visibility"] == "community":
        return visibility in ("community", "all") or "owner" in req.query
    return record["visibility"] == "shared" and shared.get(record["id"]) in (
        ("accepted", "pending", "rejected") if member_status == "all" else (member_status,)
    )


_NO_FILTERS = ("limit", "marker", "sort", "sort_key", "sort_dir", "visibility", "member_status", "os_hidden")


def _lets_through(record: dict[str, Any], name: str, values: list[str]) -> bool:
    if name in _NO_FILTERS:
        return True
    if name == "tag":
        return set(values) <= set(record["doc"].get("tags", ()))
    value = values[-1]
    if name in ("size_min", "size_max"):
        bound, size = _whole(value, name), record["size"] or 0
        return size >= bound if name == "size_min" else size <= bound
    if name in ("created_at", "updated_at"):
        word, _, text = value.partition(":") if value.partition(":")[0] in _COMPARISONS else ("eq", "", value)
        return bool(_COMPARISONS[word](_moment(record[name]), _moment(text)))
    actual = record[name] if name in store.PLAIN else record["doc"].get("properties", {}).get(name)
    shown = str(actual).lower() if isinstance(actual, bool) else str(actual)
    if isinstance(actual, bool):
        value = value.lower()
    if value.startswith("in:"):
        return shown in [part.strip('"') for part in value[3:].split(",")]
    return actual is not None and shown == value


def ordered(req: CompanionRequest, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The images in the order of `sort` ("name:asc,size:desc") or `sort_key` and `sort_dir`; newest first when neither
    is given."""
    keys: list[tuple[str, str]] = []
    for part in (req.one("sort") or "").split(","):
        if part:
            name, _, direction = part.partition(":")
            keys.append((name, direction or "desc"))
    directions = req.query.get("sort_dir", [])
    for at, name in enumerate(req.query.get("sort_key", [])):
        keys.append((name, directions[at] if at < len(directions) else (directions or ["desc"])[-1]))
    if not keys and directions:
        keys.append(("created_at", directions[-1]))
    for name, direction in reversed(keys):
        if name not in SORT_KEYS or direction not in ("asc", "desc"):
            raise Invalid(reason=f"Invalid sort: {name}:{direction}")
        records = sorted(
            records, key=lambda record: (record[name] is not None, record[name] or 0)
            if name in ("size", "min_disk", "min_ram")
            else (record[name] is not None, record[name] or ""), reverse=direction == "desc",
        )  # fmt: skip
    return records


def page(req: CompanionRequest, records: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], str | None]:
    """The page after `marker`, and the marker of the next one, None at the end."""
    limit = min(_whole(req.one("limit") or str(USUAL), "limit"), MOST)
    marker = req.one("marker")
    start = 0
    if marker is not None:
        places = [at for at, record in enumerate(records) if record["id"] == marker]
        if not places:
            raise Invalid(reason=f"Invalid marker: {marker}")
        start = places[0] + 1
    cut = records[start : start + limit]
    return cut, cut[-1]["id"] if cut and start + limit < len(records) else None


def _whole(text: str, name: str) -> int:
    try:
        value = int(text)
    except ValueError as error:
        raise Invalid(reason=f"{name} must be a whole number.") from error
    if value < 0:
        raise Invalid(reason=f"{name} must not be negative.")
    return value


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise Invalid(reason=f"{text} is no time.") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
