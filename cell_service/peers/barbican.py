"""Certificates from the key manager over HTTP (Key Manager API v1)."""

from __future__ import annotations

import base64
import binascii
from uuid import UUID

from cell_service.context import Context
from cell_service.errors import PeerUnavailable
from cell_service.peers.certificates import Certificates
from cell_service.peers.session import Peer
from cell_service.peers.settings import NO_ACCOUNT, BarbicanSettings

NAME = "key manager"
LARGEST_BYTES = 2**16
_TYPES = ("application/octet-stream", "text/plain", "application/pkix-cert")


def open_certificates(settings: BarbicanSettings) -> Certificates | None:
    """Certificates of the service that `[barbican]` names; nothing is connected yet. None: the section has no
    account."""
    if not settings.account and settings.auth_type not in NO_ACCOUNT:
        return None
    return Barbican(Peer(NAME, settings.in_common_words(), "/v1"))


class Barbican:
    """Reads secrets with compute's own account, which their access lists must admit."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def get(self, ctx: Context, certificate_id: str) -> bytes | None:
        try:
            path = f"/secrets/{UUID(certificate_id)}"
        except ValueError:
            return None
        reply = self._peer.ask(ctx, "GET", path)
        if reply.status in (400, 403, 404):
            return None
        if not reply.ok or not isinstance(reply.json, dict):
            raise PeerUnavailable(service=NAME, reason=f"it answered {reply.status}")
        types = reply.json.get("content_types")
        kind = str(types.get("default", "")) if isinstance(types, dict) else ""
        accept = kind if kind in _TYPES or kind.startswith("text/plain;") else _TYPES[0]
        with self._peer.stream(ctx, f"{path}/payload", accept=accept) as (status, chunks):
            if status != 200:
                raise PeerUnavailable(service=NAME, reason=f"it answered {status} for a payload")
            content = bytearray()
            for chunk in chunks:
                content += chunk
                if len(content) > LARGEST_BYTES:
                    return None
        return _decoded(bytes(content))


def _decoded(content: bytes) -> bytes:
    """DER that was stored as text is in base64."""
    if content.startswith((b"-----BEGIN", b"\x30")):
        return content
    try:
        return base64.b64decode(b"".join(content.split()), validate=True)
    except binascii.Error:
        return content
