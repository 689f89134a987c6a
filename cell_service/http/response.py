"""The answer of a handler, as data and as bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_encoded = json.JSONEncoder(check_circular=False).encode
"""Views are trees: checking for cycles would be a fifth of the work."""


@dataclass(frozen=True, slots=True)
class Response:
    """Status, body (JSON data, bytes already rendered, or None for no body) and further headers. `file`: its content
    is the body."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    file: Path | None = None

    def rendered(self) -> RenderedResponse:
        """The same with the body as bytes."""
        body = self.body
        if body is None:
            return RenderedResponse(self.status, b"", self.headers, self.file)
        raw = body if isinstance(body, bytes) else _encoded(body).encode()
        return RenderedResponse(self.status, raw, self.headers, self.file)


@dataclass(frozen=True, slots=True)
class RenderedResponse:
    """A response as it is sent: the body is bytes, or the content of a file."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    file: Path | None = None
