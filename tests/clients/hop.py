"""Between clients and the compute API: passes everything on as it is, and holds every answer against what is published.

The catalog names it as the compute endpoint; the API sees the client's own Host, so that links lead here again.
"""

from __future__ import annotations

import gzip
import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import requests

from tests.edge import published

SECONDS = 120
OF_A_CONNECTION = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"})
"""Headers that each side of the hop has its own of."""


class Hop:
    """`seen` is how many answers were passed on, `misfits` what was found wrong with them."""

    def __init__(self, misfits: list[str], behind: str = "") -> None:
        self.misfits, self.seen, self.behind = misfits, 0, behind
        hop, lock = self, threading.Lock()

        class Passing(_Passing):
            target = property(lambda _: hop.behind)

            def look(self, wrong: str) -> None:
                with lock:
                    hop.seen += 1
                    hop.misfits.extend([wrong] if wrong else [])

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Passing)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._server.server_port)

    def stand_before(self, environment: dict[str, str]) -> None:
        """From now on the catalog of this cloud leads compute's clients here. Done again: nothing changes."""
        base = environment["OS_AUTH_URL"].rstrip("/")
        session = requests.Session()
        session.headers["X-Auth-Token"] = _token(base, environment)
        (service,) = session.get(f"{base}/services", params={"type": "compute"}, timeout=10).json()["services"]
        here = f"http://127.0.0.1:{self.port}"
        query = {"service_id": service["id"]}
        for endpoint in session.get(f"{base}/endpoints", params=query, timeout=10).json()["endpoints"]:
            there = urlsplit(endpoint["url"])
            if there.port == self.port:
                continue
            self.behind = there.netloc
            changed = {"endpoint": {"url": here + there.path}}
            session.patch(f"{base}/endpoints/{endpoint['id']}", json=changed, timeout=10).raise_for_status()

    def close(self) -> None:
        """Clients are no longer served here."""
        self._server.shutdown()
        self._server.server_close()


class _Passing(BaseHTTPRequestHandler):
    """One connection of a client, and one to the API for it."""

    protocol_version = "HTTP/1.1"
    target: property | str
    _api: http.client.HTTPConnection | None = None

    def pass_on(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or None
        own = {name: value for name, value in self.headers.items() if name.lower() not in OF_A_CONNECTION}
        if sent is not None:
            own["Content-Length"] = str(len(sent))
        status, headers, raw = self._answer(sent, own)
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in OF_A_CONNECTION:
                self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", headers.get("Content-Length", "0") if self._bare else str(len(raw)))
        self.look(self._wrong(status, headers, sent, raw))
        self.end_headers()
        self.wfile.write(raw)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = pass_on

    def look(self, wrong: str) -> None:
        """Take note of one answer."""

    @property
    def _bare(self) -> bool:
        return self.command == "HEAD"

    def _answer(self, sent: bytes | None, headers: dict[str, str]) -> tuple[int, http.client.HTTPMessage, bytes]:
        """A connection of its own for each request: one kept from before a restart would end in an error."""
        api = http.client.HTTPConnection(str(self.target), timeout=SECONDS)
        try:
            api.request(self.command, self.path, sent, headers)
            answer = api.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            api.close()

    def _wrong(self, status: int, headers: http.client.HTTPMessage, sent: bytes | None, raw: bytes) -> str:
        version = headers.get("OpenStack-API-Version", "").removeprefix("compute ")
        plain = gzip.decompress(raw) if headers.get("Content-Encoding") == "gzip" else raw
        found = published.fault(self.command, self.path, version, status, sent, plain)
        return found and f"{self.command} {self.path} at {version}: {found}\nsent {sent!r}\nanswered {plain[:1000]!r}"

    def log_message(self, format: str, *args: object) -> None:
        """Tests print what they want to know."""


def _token(base: str, environment: dict[str, str]) -> str:
    user = {"name": environment["OS_USERNAME"], "password": environment["OS_PASSWORD"], "domain": {"id": "default"}}
    project = {"name": environment["OS_PROJECT_NAME"], "domain": {"id": "default"}}
    auth: Any = {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": {"project": project}}
    answer = requests.post(f"{base}/auth/tokens", json={"auth": auth}, timeout=10)
    answer.raise_for_status()
    return answer.headers["X-Subject-Token"]
