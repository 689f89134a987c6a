"""Every answer that a test gets is held against what is published of its route: status, and shape of the body; of a
refusal too, whether this route is said to refuse so.

Holds where the wire data lies beside the repository; without it nothing is checked here.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from tests.edge import reference

PREFIXES = ("v2.1", "v2")
ANYWHERE = {
    400: "a body, a query, a version or an id that is not as it must be, on every route",
    401: "no valid token",
    403: "by policy",
    406: "a version that is not served",
    413: "a body that is too large",
    415: "a body of another kind than JSON",
    422: "an idempotency key that stands for another body",
    429: "more requests than the operator allows a project",
    503: "what is asked about is where nobody answers: a cell or a service beside us",
}
"""What any route may refuse with, and when."""
HERE: dict[tuple[str, int], str] = {}
"""What else a route refuses with, and why."""
MOST = 20
"""Of a longer list that many at each end are looked at."""


@cache
def _tree() -> dict[str, Any]:
    """Segments of the published paths, nested; placeholders are "{}", the rows of a path stand under ""."""
    tree: dict[str, Any] = {}
    if not (reference.FOLDER / "routes.json").exists():
        return tree
    for (method, path, action), rows in reference.routes().items():
        if " " in path or path.startswith(("/{}", "/versions")):
            continue  # not below a prefix
        node = tree
        for segment in path.split("/")[1:]:
            node = node.setdefault(segment, {})
        node.setdefault("", {}).setdefault(method, {})[action] = rows
    return tree


def _walk(node: dict[str, Any], segments: list[str]) -> dict[str, Any] | None:
    if not segments:
        found: dict[str, Any] | None = node.get("")
        return found
    for name in (segments[0], "{}"):
        if name and name in node:
            found = _walk(node[name], segments[1:])
            if found is not None:
                return found
    return None


def _routes_of(path: str) -> dict[str, Any] | None:
    """The published methods of a path below a prefix, with or without a project; None for any other path."""
    segments = urlsplit(path).path.removesuffix("/").split("/")[1:]
    if len(segments) < 2 or segments[0] not in PREFIXES:
        return None
    return _walk(_tree(), segments[1:]) or _walk(_tree(), segments[2:])


def fault(method: str, path: str, version: str, status: int, sent: bytes | None, raw: bytes) -> str:
    """What of the answer is not as published, "" when all is. `path` with its prefix, `version` the one it was
    answered at."""
    methods = _routes_of(path)
    if methods is None or method not in methods or not version:
        return ""
    rows = methods[method].get(_action(methods[method], sent), [])
    at = reference.parsed(version)
    row = next(
        (each for each in rows if reference.parsed(each["min_version"]) <= at <= reference.parsed(each["max_version"])),
        None,
    )
    if status >= 400:
        return _misnamed(status, raw) or _unexpected(row, version, status)
    return _misfit(row, version, status, raw) if row else f"answers {status} at {version}, where it is not published"


def _action(actions: dict[str | None, Any], sent: bytes | None) -> str | None:
    """The action that the body names, as far as it is one."""
    if None in actions or not sent:
        return None
    try:
        return str(next(iter(json.loads(sent))))
    except (ValueError, TypeError, StopIteration, RecursionError):
        return None


def _unexpected(row: dict[str, Any] | None, version: str, status: int) -> str:
    if row is None:  # an action that there is not, or not at this version
        return "" if status in (*ANYWHERE, 404) else f"answers {status} at {version}, where nothing is published"
    at = reference.parsed(version)
    codes = {
        code
        for each in row["expected_errors"]
        if reference.parsed(each.get("min_version", "2.1")) <= at <= reference.parsed(each.get("max_version", "2.104"))
        for code in each["codes"]
    }
    codes |= {row["removed_status"]} if row["removed"] else set()
    name = " ".join(part for part in (row["method"], row["path"], row["action"]) if part)
    if status in codes or status in ANYWHERE or (name, status) in HERE:
        return ""
    return f"refuses with {status} at {version}, not with {sorted(codes)}"


def _misnamed(status: int, raw: bytes) -> str:
    """Faults have one key, and in it code and message."""
    try:
        ((_, content),) = json.loads(raw).items()
        fits = content["code"] == status and isinstance(content["message"], str)
    except (ValueError, AttributeError, TypeError, KeyError):
        fits = status == 401 or not raw  # said by what stands before the API
    return "" if fits else f"answers {status} with no fault: {raw[:200]!r}"


def _misfit(row: dict[str, Any], version: str, status: int, raw: bytes) -> str:
    codes = {
        each["code"]
        for each in row["success"]
        if reference.parsed(each.get("min_version", "2.1"))
        <= reference.parsed(version)
        <= reference.parsed(each.get("max_version", "2.104"))
    }
    if status not in codes:
        return f"answers {status}, not {sorted(codes)}"
    body = _shortened(json.loads(raw) if raw else None)
    if reference.fits_answer(row["schema_file"], version, body):
        return ""
    error = next(reference.explaining_validator(row["schema_file"], version).iter_errors(body), None)
    return "" if error is None else _explained(error)


def _explained(error: Any) -> str:
    """Where and what; of several shapes none of which fits, all that is wrong with the one that fits best."""
    branches: dict[Any, list[Any]] = {}
    for inner in error.context or ():
        branches.setdefault(inner.schema_path[0], []).append(inner)
    nearest = min(branches.values(), key=len, default=[])
    if nearest:
        return "; ".join(_explained(inner) for inner in nearest[:5])
    return f"{'/'.join(map(str, error.absolute_path))}: {error.message[:200]}"


def _shortened(body: Any) -> Any:
    """With only the ends of a long list."""
    if not isinstance(body, dict):
        return body
    return {
        name: value[:MOST] + value[-MOST:] if isinstance(value, list) and len(value) > 2 * MOST else value
        for name, value in body.items()
    }
