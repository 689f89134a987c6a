"""The hop before the compute API changes nothing, and misses nothing that is not as published."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from tests.clients.hop import Hop
from tests.edge import reference

VERSION = "OpenStack-API-Version"
SAID = {
    "/v2.1/os-keypairs": (200, b'{"keypairs": []}'),
    "/v2.1/os-keypairs?limit=2": (200, b'{"keypairs": {}}'),
    "/v2.1/os-hypervisors": (200, b'{"hypervisors": [{"id": 1}]}'),
    "/v2.1/os-keypairs/x": (500, b"Traceback"),
    "/": (300, b"{}"),
}


class Telling(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        status, raw = SAID[self.path]
        self.send_response(status)
        self.send_header(VERSION, "compute 2.60")
        self.send_header("X-Host", self.headers["Host"])
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def hop() -> Iterator[Hop]:
    reference.demand()
    told = ThreadingHTTPServer(("127.0.0.1", 0), Telling)
    threading.Thread(target=told.serve_forever, daemon=True).start()
    made = Hop([], f"127.0.0.1:{told.server_port}")
    yield made
    made.close()
    told.shutdown()
    told.server_close()


@pytest.mark.parametrize("path", SAID)
def test_an_answer_is_passed_on_and_told_of_only_when_it_does_not_fit(hop: Hop, path: str) -> None:
    answer = requests.get(f"http://127.0.0.1:{hop.port}{path}", timeout=10)
    assert (answer.status_code, answer.content) == SAID[path]
    assert (answer.headers[VERSION], answer.headers["X-Host"]) == ("compute 2.60", f"127.0.0.1:{hop.port}")
    assert hop.seen == 1
    assert [text.split()[1] for text in hop.misfits] == ([] if path in ("/", "/v2.1/os-keypairs") else [path])
