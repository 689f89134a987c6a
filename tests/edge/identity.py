"""An identity service as small as can be: tokens are handed to it, and it says whose they are (Identity API v3)."""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


def token(project: str | None = "p1", *roles: str, minutes: float = 60, **more: Any) -> dict[str, Any]:
    """The body of a token that expires in `minutes`."""
    domain = {"id": "default", "name": "Default"}
    made: dict[str, Any] = {
        "user": {"id": "ann", "name": "Ann", "domain": domain},
        "roles": [{"id": role, "name": role} for role in roles],
        "expires_at": (datetime.now(UTC) + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "issued_at": "2026-01-01T00:00:00.000000Z",
        "methods": ["password"],
    }
    if project is not None:
        made["project"] = {"id": project, "name": project, "domain": domain}
    return made | more


@dataclass
class Identity:
    """`tokens` by id; `asked` counts validations; while `gate` is closed, validations wait."""

    tokens: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    gate: threading.Event = field(default_factory=threading.Event)
    broken: bool = False

    def __post_init__(self) -> None:
        self.gate.set()
        identity = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self._answer(201, {"token": token("service", "service")}, {"X-Subject-Token": "ours"})

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                subject = self.headers.get("X-Subject-Token", "")
                identity.asked[subject] += 1
                identity.gate.wait(20)
                found = identity.tokens.get(subject)
                late = found is not None and datetime.fromisoformat(found["expires_at"]) < datetime.now(UTC)
                if identity.broken:
                    self._answer(500, {"error": {}})
                elif found is None or (late and "allow_expired=1" not in parts.query):
                    self._answer(404, {"error": {}})
                else:
                    self._answer(200, {"token": found})

            def _answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
                raw = json.dumps(body).encode()
                self.send_response(status)
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self) -> None:
        self.gate.set()
        self.server.shutdown()
        self.server.server_close()
