"""A client of an API under test: one keep-alive connection, answers as values."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.edge import published

ADMIN = "admin:admin-project"
IDLE_SECONDS = 20.0
"""Much less than a server lets a connection idle."""


@dataclass(frozen=True)
class Reply:
    status: int
    headers: http.client.HTTPMessage
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.raw)

    @property
    def fault(self) -> tuple[str, str]:
        """Name and message of a Compute fault."""
        ((name, content),) = self.json.items()
        assert content["code"] == self.status
        return name, content["message"]


class Client:
    """Speaks to one port. `token` None sends none; `version` is a microversion of `service`.

    What the Compute API answers is held against what is published of it.
    """

    def __init__(self, port: int, prefix: str = "/v2.1", service: str = "compute", token: str | None = ADMIN) -> None:
        self.port = port
        self.prefix = prefix
        self.service = service
        self.token = token
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._used_at = time.monotonic()

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        version: str | None = None,
        token: str | None = "",
        headers: Mapping[str, str] | None = None,
        whole: bool = False,
    ) -> Reply:
        """`body` is sent as JSON, bytes as they are; `whole`: the path already has its prefix."""
        sent = {"Accept": "application/json", **(headers or {})}
        chosen = self.token if token == "" else token
        if chosen is not None:
            sent.setdefault("X-Auth-Token", chosen)
        if version is not None:
            sent["OpenStack-API-Version"] = f"{self.service} {version}"
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if raw is not None:
            sent.setdefault("Content-Type", "application/json")
        target = path if whole else self.prefix + path
        if time.monotonic() - self._used_at > IDLE_SECONDS:
            self._connection.close()  # the server ends connections that idle: the next request opens another
        self._connection.request(method, target, raw, sent)
        answer = self._connection.getresponse()
        self._used_at = time.monotonic()
        reply = Reply(answer.status, answer.headers, answer.read())
        if "X-Polycell-Recorded" in reply.headers:
            return reply  # nothing is published of that
        answered_at = reply.headers.get("OpenStack-API-Version", "").removeprefix("compute ")
        wrong = published.fault(method, target, answered_at, reply.status, raw, reply.raw)
        assert not wrong, f"{method} {target} at {answered_at}: {wrong}"
        return reply

    def get(self, path: str, **options: Any) -> Reply:
        return self.request("GET", path, **options)

    def post(self, path: str, body: Any, **options: Any) -> Reply:
        return self.request("POST", path, body, **options)

    def put(self, path: str, body: Any, **options: Any) -> Reply:
        return self.request("PUT", path, body, **options)

    def delete(self, path: str, **options: Any) -> Reply:
        return self.request("DELETE", path, **options)

    def close(self) -> None:
        self._connection.close()
