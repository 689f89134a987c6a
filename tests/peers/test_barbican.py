"""Certificates from a key manager, over HTTP."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from cell_service.context import internal
from cell_service.errors import PeerUnavailable
from cell_service.peers.barbican import LARGEST_BYTES, open_certificates
from cell_service.peers.certificates import Certificates
from cell_service.peers.settings import BarbicanSettings
from tests.suites.key_manager import party

BINARY, TEXT = "application/octet-stream", "text/plain"
DER = party("signer").certificate.public_bytes(Encoding.DER)
PEM = party("signer").certificate.public_bytes(Encoding.PEM)


def an_id(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012}"


SECRETS = {
    an_id(1): (BINARY, DER, DER),
    an_id(2): (TEXT, PEM, PEM),
    an_id(3): (TEXT, base64.encodebytes(DER), DER),
    an_id(4): (f"{TEXT};charset=utf-8", PEM, PEM),
    an_id(5): (BINARY, b"x" * (LARGEST_BYTES + 1), None),
}


class Handler(BaseHTTPRequestHandler):
    """Answers as Barbican: a payload only to a request that accepts its content type."""

    status: ClassVar[int] = 0

    def do_GET(self) -> None:
        _, version, _, secret_id, *more = self.path.split("/")
        kind, payload, _ = SECRETS.get(secret_id, ("", b"", b""))
        if Handler.status or version != "v1" or not kind or self.headers.get("X-Auth-Token") is None:
            self._answer(Handler.status or 404, "application/json", b"{}")
        elif not more:
            self._answer(200, "application/json", json.dumps({"content_types": {"default": kind}}).encode())
        elif self.headers["Accept"] != kind:
            self._answer(406, "application/json", b"{}")
        else:
            self._answer(200, kind, payload)

    def _answer(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def certificates() -> Iterator[Certificates]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        opened = open_certificates(BarbicanSettings(auth_type="none", endpoint_override=url))
        assert opened is not None
        yield opened
        server.shutdown()


@pytest.mark.parametrize("secret_id", SECRETS)
def test_a_certificate_is_read_in_each_way_in_which_it_can_be_stored(
    certificates: Certificates, secret_id: str
) -> None:
    assert certificates.get(internal(), secret_id) == SECRETS[secret_id][2]


@pytest.mark.parametrize("secret_id", [an_id(9), "no-uuid", "../../v1/secrets"])
def test_there_is_no_certificate_of_another_id(certificates: Certificates, secret_id: str) -> None:
    assert certificates.get(internal(), secret_id) is None


def test_a_key_manager_that_fails_is_said_to_be_unavailable(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    for status in (500, 401, 302):
        monkeypatch.setattr(Handler, "status", status)
        with pytest.raises(PeerUnavailable):
            certificates.get(internal(), an_id(1))
    monkeypatch.setattr(Handler, "status", 403)
    assert certificates.get(internal(), an_id(1)) is None


def test_a_section_without_an_account_is_no_key_manager() -> None:
    assert open_certificates(BarbicanSettings()) is None
