"""An API as the edge sees it: its name, versions, routes and the form of its faults."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from api_cell.edge.route import Handler, Route, Version
from api_cell.edge.schema import BODY, QUERY, Wording
from cell_service.errors import PolycellError

RenderFault = Callable[["ErrorReply"], object]
"""A fault's body, as JSON data."""


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """A failure before it has a body. `error` None: the edge found it, or it is a bug that stays hidden."""

    status: int
    message: str
    request_id: str
    version: Version
    retry_after: int | None = None
    error: PolycellError | None = None


@dataclass(frozen=True, slots=True)
class Versioning:
    """How an API speaks of versions: the `form` of one (a regular expression with two groups), what it says of one that
    has another form or that it does not have, and how answers name the header that they vary by."""

    form: str = r"([1-9][0-9]{0,4})\.(0|[1-9][0-9]{0,4})"
    malformed: str = "API version {version!r} is not of the form MAJOR.MINOR."
    unknown: str = "Version {version} is not supported. The lowest is {lowest}, the highest {highest}."
    vary: str = "OpenStack-API-Version"


@dataclass(frozen=True, slots=True)
class Api:
    """Compute or Placement.

    `service_type` is its name in OpenStack-API-Version. Routes are below `prefix` ("" for none); below
    `legacy_prefix` the same routes are served without microversions, and unknown keys of a body are dropped.
    The two wordings say what does not fit a schema, and `malformed` that a body is no JSON ({error}: why not).
    With `strict_media` a request must accept JSON and name the type of its body, and clients that take no JSON get
    faults as HTML.
    With `project_in_path` a project id may come between prefix and path. `roots` have whole paths, and need no
    token; `fallback` answers GET of any other path outside the prefixes.
    """

    name: str
    service_type: str
    min_version: Version
    max_version: Version
    routes: Sequence[Route]
    render_fault: RenderFault
    prefix: str = ""
    legacy_prefix: str | None = None
    legacy_header: str | None = None
    project_in_path: bool = False
    body_wording: Wording = BODY
    query_wording: Wording = QUERY
    malformed: str = "Malformed request body"
    versioning: Versioning = Versioning()
    strict_media: bool = False
    roots: Sequence[Route] = ()
    fallback: Handler | None = None
