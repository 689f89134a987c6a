"""The families of errors: each has the HTTP status of what the caller can do about it."""

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
    message = "The method {method} is not allowed for this resource. Allowed: {allow}."


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
    message = "The media type {content_type} is not supported, use application/json"


class NotSupported(PolycellError):
    status = 501
    message = "{reason}"


class Unavailable(PolycellError):
    """Something we need does not answer. `retry_after` (seconds) may be among the fields."""

    status = 503
    message = "{reason}"
