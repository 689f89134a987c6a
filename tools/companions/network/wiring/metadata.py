"""The metadata proxy of one network: the address identifies the guest, since it can't use another's."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import logging
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from cell_service.logs import about
from tools.companions.network.wiring.dhcp import METADATA
from tools.companions.network.wiring.namespaces import Namespace
from tools.companions.network.wiring.plan import NetworkPlan

log = logging.getLogger(__name__)
LARGEST_BODY = 64 * 1024
LARGEST_ANSWER = 4 * 1024 * 1024
SECONDS = 20.0
MOST_AT_ONCE = 32
_PASSED = ("Accept", "Content-Type", "User-Agent", "X-aws-ec2-metadata-token", "X-aws-ec2-metadata-token-ttl-seconds")


@dataclass(frozen=True, slots=True)
class Upstream:
    """The metadata service, and the secret that it shares with us (none: its requests are not signed)."""

    url: str
    secret: str = ""

    def headers(self, address: str, instance_id: str, project_id: str) -> dict[str, str]:
        """The headers that identify the guest to the service."""
        known = {"X-Forwarded-For": address, "X-Instance-ID": instance_id, "X-Tenant-ID": project_id}
        if self.secret:
            signature = hmac.new(self.secret.encode(), instance_id.encode(), hashlib.sha256).hexdigest()
            known["X-Instance-ID-Signature"] = signature
        return known


class MetadataProxy:
    """Listens at 169.254.169.254:80 of a namespace. What it knows of the network is replaced as a whole."""

    def __init__(self, namespace: Namespace, upstream: Upstream) -> None:
        self.upstream = upstream
        self.owners: dict[str, tuple[str, str]] = {}
        self.slots = threading.BoundedSemaphore(MOST_AT_ONCE)
        listening = namespace.listener(METADATA, 80)
        self._server = _Server((METADATA, 80), _Handler, bind_and_activate=False)
        self._server.socket.close()
        self._server.socket = listening
        self._server.server_name, self._server.server_port = METADATA, 80
        self._server.proxy = self
        self._thread = threading.Thread(target=self._server.serve_forever, name="metadata-proxy", daemon=True)
        self._thread.start()

    def know(self, network: NetworkPlan) -> None:
        """Learn the addresses of the plan's ports, in place of those before."""
        self.owners = {
            one.text: (port.device_id, port.project_id)
            for port in network.ports
            if port.device_id and port.device_owner.startswith("compute:")
            for one in port.fixed
        }

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    proxy: MetadataProxy

    def handle_error(self, request: object, client_address: object) -> None:
        log.debug("a guest's connection failed", extra=about(None, address=client_address), exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    timeout = SECONDS
    server: _Server

    def do_GET(self) -> None:
        self._forward()

    do_HEAD = do_POST = do_PUT = do_GET

    def log_message(self, format: str, *args: object) -> None:
        log.debug("metadata requested", extra=about(None, line=format % args))

    def _forward(self) -> None:
        proxy = self.server.proxy
        address = str(self.client_address[0])
        owner = proxy.owners.get(address)
        if owner is None:
            self._say(404, b"Nobody here has that address.\n")
            return
        try:
            length = int(self.headers.get("Content-Length") or 0)
        except ValueError:
            length = -1
        if not 0 <= length <= LARGEST_BODY:
            self._say(413 if length > 0 else 400, b"")
            return
        body = self.rfile.read(length) if length else None
        if not proxy.slots.acquire(timeout=SECONDS):
            self._say(503, b"Too many ask at once.\n")
            return
        try:
            self._answer(address, owner, body)
        finally:
            proxy.slots.release()

    def _answer(self, address: str, owner: tuple[str, str], body: bytes | None) -> None:
        upstream = self.server.proxy.upstream
        parts = urlsplit(upstream.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        passed = {name: value for name in _PASSED if (value := self.headers.get(name))}
        path = parts.path.rstrip("/") + "/" + self.path.lstrip("/")
        connection = kind(parts.hostname or "", parts.port, timeout=SECONDS)
        try:
            connection.request(self.command, path, body, {**passed, **upstream.headers(address, *owner)})
            answer = connection.getresponse()
            content = answer.read(LARGEST_ANSWER)
            self._say(answer.status, content, answer.headers.get("Content-Type") or "text/plain")
        except (OSError, http.client.HTTPException, ValueError) as error:
            log.warning("metadata service doesn't answer", extra=about(None, instance=owner[0], reason=error))
            self._say(502, b"The metadata service does not answer.\n")
        finally:
            connection.close()

    def _say(self, status: int, content: bytes, kind: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        self.close_connection = True
