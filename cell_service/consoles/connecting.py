"""Connections of a proxy to guests' consoles, with TLS where the host has it."""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass

from tornado.iostream import IOStream
from tornado.tcpclient import TCPClient

from cell_service.consoles import rfb
from cell_service.consoles.config import Vnc
from cell_service.errors import Invalid
from cell_service.model.console import ConsoleToken

SECONDS = 10.0
"""The most that a host may take, from the connection to the end of its security."""
SCREEN = "novnc"
_LONGEST_ANSWER = 65536


@dataclass(frozen=True, slots=True)
class HostSecurity:
    """The proxy's offer to hosts: `schemes` of VNC, the best first; and files for TLS, each PEM: `ca` vouches for
    hosts' certificates, `cert` and `key` are the proxy's own (`key` alone may be None)."""

    schemes: tuple[str, ...] = ("none",)
    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    def tls(self) -> ssl.SSLContext:
        """Read from the files as they are now. A certificate's name is not compared, as Nova's proxy does not: `ca`
        vouches for hosts alone. Raises Invalid."""
        if not self.ca:
            raise Invalid(reason="[vnc] vencrypt_ca_certs is not set")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        try:
            context.load_verify_locations(self.ca)
            if self.cert:
                context.load_cert_chain(self.cert, self.key)
        except (OSError, ssl.SSLError) as error:
            names = " or ".join(filter(None, (self.ca, self.cert, self.key)))
            raise Invalid(reason=f"[vnc] vencrypt: {names} cannot be used: {error}") from error
        return context


def host_security(vnc: Vnc) -> HostSecurity:
    """Raises Invalid, also for certificates that cannot be used."""
    made = HostSecurity(vnc.auth_schemes, vnc.vencrypt_ca_certs, vnc.vencrypt_client_cert, vnc.vencrypt_client_key)
    if not made.schemes:
        raise Invalid(reason="[vnc] auth_schemes is empty")
    if made.key and not made.cert:
        raise Invalid(reason="[vnc] vencrypt_client_cert is not set")
    if "vencrypt" in made.schemes or made.ca or made.cert:
        made.tls()
    return made


async def connected(token: ConsoleToken, security: HostSecurity) -> IOStream:
    """A stream to the console: a screen by VNC waits for ClientInit there. A place that names a port with TLS is
    reached there, where it has no other, or the proxy can see that the host is one. Raises ConsoleRefused, OSError,
    StreamClosedError, Invalid."""
    place = token.place
    by_tls = place.tls_port is not None and (place.port in (0, place.tls_port) or bool(security.ca))
    if place.address.startswith("/"):
        stream = IOStream(socket.socket(socket.AF_UNIX))
        await asyncio.wait_for(stream.connect(place.address), SECONDS)
    else:
        port = place.tls_port if by_tls and place.tls_port is not None else place.port
        stream = await TCPClient().connect(place.address, port, timeout=SECONDS)
    try:
        return await asyncio.wait_for(_begun(stream, token, security, by_tls=by_tls), SECONDS)
    except BaseException:
        rfb.close(stream)
        raise


async def _begun(stream: IOStream, token: ConsoleToken, security: HostSecurity, *, by_tls: bool) -> IOStream:
    if by_tls:
        return await rfb.secured(stream, security.tls())
    if token.place.internal_access_path:
        await _requested(stream, token.place.internal_access_path)
    return await rfb.agree(stream, security.schemes, security.tls) if token.kind == SCREEN else stream


async def _requested(stream: IOStream, path: str) -> None:
    await stream.write(f"CONNECT {path} HTTP/1.1\r\n\r\n".encode())
    answer = await stream.read_until(b"\r\n\r\n", max_bytes=_LONGEST_ANSWER)
    if b" 200 " not in answer.split(b"\r\n", 1)[0] + b" ":
        raise OSError("the console refuses the connection")
