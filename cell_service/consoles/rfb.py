"""The beginning of RFB (RFC 6143, versions 3.3, 3.7 and 3.8), where both sides agree on a version and on security.

A proxy is a client of the guest's screen (`agree`), with TLS where the host has it (VeNCrypt, of which X509None alone),
and the server of its user's viewer (`Welcome`): that one has shown a token, and is offered no security. What follows,
from ClientInit on, is the same in all versions, and passes unchanged.
"""

from __future__ import annotations

import ssl
import struct
from collections.abc import Callable, Collection

from tornado.iostream import IOStream, StreamClosedError

from cell_service.errors import ConsoleRefused

NONE, VENCRYPT = 1, 19
SCHEMES = {"none": NONE, "vencrypt": VENCRYPT}
"""The names in `[vnc] auth_schemes`, and their types of security."""
_NAMES = {NONE: "none", 2: "a VNC password", 16: "Tight", 18: "TLS", VENCRYPT: "VeNCrypt", 20: "SASL"}
_SUBTYPES = {
    257: "TLS without certificates", 258: "TLS and a password", 259: "TLS and an account", 261: "a VNC password",
    262: "an account", 263: "SASL", 264: "SASL",
}  # fmt: skip
_X509_NONE = 260
_VENCRYPT_VERSION = bytes((0, 2))
_VERSION_LENGTH = 12
_VERSION = b"RFB 003.%03d\n"
_LONGEST_REASON = 4096


async def agree(stream: IOStream, schemes: Collection[str], tls: Callable[[], ssl.SSLContext]) -> IOStream:
    """The stream, which TLS may wrap, to a screen that waits for ClientInit; the first of the schemes that the host
    offers is taken. It is closed after an error. Raises ConsoleRefused, OSError, StreamClosedError, Invalid."""
    try:
        minor, chosen = await _chosen(stream, schemes)
        if chosen == VENCRYPT:
            stream = await _encrypted(stream, tls)
        if chosen != NONE or minor == 8:
            await _accepted(stream, minor, chosen)
    except BaseException:  # a time-out, too
        close(stream)
        raise
    return stream


async def secured(stream: IOStream, context: ssl.SSLContext) -> IOStream:
    """The stream, wrapped by TLS; it is closed after an error. Raises ConsoleRefused, OSError, StreamClosedError."""
    try:
        return await stream.start_tls(False, context)
    except ssl.SSLCertVerificationError as error:
        raise ConsoleRefused(reason=f"The host's certificate is not accepted: {error.verify_message}.") from error
    except ssl.SSLError as error:
        raise ConsoleRefused(reason=f"There is no TLS with the host: {error.reason or error}.") from error
    except ValueError as error:  # more came than the host may have said by now
        raise ConsoleRefused(reason="The host does not speak RFB as it should.") from error


def close(stream: IOStream) -> None:
    """Close a stream; one that TLS has wrapped has no socket any more."""
    if stream.socket is not None:
        stream.close()


async def _chosen(stream: IOStream, schemes: Collection[str]) -> tuple[int, int]:
    """The minor version, and the type of security."""
    minor = _minor_of(await stream.read_bytes(_VERSION_LENGTH))
    await stream.write(_VERSION % minor)
    offered = await _offered(stream, minor)
    known = [SCHEMES[name] for name in schemes]
    chosen = next((each for each in known if each in offered), None)
    if chosen is None:
        raise ConsoleRefused(reason=f"The host demands {_listed(offered, _NAMES)}, which the proxy does not offer.")
    if minor > 3:
        await stream.write(bytes((chosen,)))
    return minor, chosen


def _minor_of(version: bytes) -> int:
    """3, 7 or 8. RFC 6143, 7.1.1: other versions below 3.7 are taken as 3.3; later ones speak 3.8, too."""
    numbers = version[4:7] + version[8:11]
    if not (version.startswith(b"RFB ") and version[7:8] == b"." and version[11:] == b"\n" and numbers.isdigit()):
        raise ConsoleRefused(reason="The host's console is no screen by VNC.")
    major, minor = int(version[4:7]), int(version[8:11])
    if major > 3 or (major == 3 and minor >= 8):
        return 8
    return 7 if (major, minor) == (3, 7) else 3


async def _offered(stream: IOStream, minor: int) -> Collection[int]:
    if minor == 3:
        offered = struct.unpack(">I", await stream.read_bytes(4))
        empty = offered == (0,)
    else:
        count = (await stream.read_bytes(1))[0]
        offered = tuple(await stream.read_bytes(count)) if count else ()
        empty = not offered
    if empty:
        raise ConsoleRefused(reason=await _reason(stream))
    return offered


async def _encrypted(stream: IOStream, tls: Callable[[], ssl.SSLContext]) -> IOStream:
    """Version 0.2 of VeNCrypt, by the RFB protocol of the TigerVNC project, 7.2.7."""
    version = await stream.read_bytes(2)
    if version < _VENCRYPT_VERSION:
        raise ConsoleRefused(reason=f"The host speaks VeNCrypt {version[0]}.{version[1]}, which is too old.")
    await stream.write(_VENCRYPT_VERSION)
    if await stream.read_bytes(1) != b"\0":
        raise ConsoleRefused(reason="The host does not speak VeNCrypt 0.2.")
    count = (await stream.read_bytes(1))[0]
    offered = struct.unpack(f">{count}I", await stream.read_bytes(4 * count)) if count else ()
    if _X509_NONE not in offered:
        raise ConsoleRefused(reason=f"The host demands {_listed(offered, _SUBTYPES)}, which the proxy does not offer.")
    await stream.write(struct.pack(">I", _X509_NONE))
    if await stream.read_bytes(1) != b"\1":
        raise ConsoleRefused(reason="The host cannot begin TLS.")
    return await secured(stream, tls())


async def _accepted(stream: IOStream, minor: int, chosen: int) -> None:
    """By TLS 1.3 a host looks at the proxy's certificate when the proxy has done its part: this is the first read after
    that."""
    try:
        (result,) = struct.unpack(">I", await stream.read_bytes(4))
    except (OSError, StreamClosedError) as error:
        if chosen == VENCRYPT:
            raise ConsoleRefused(reason="The host ends TLS: it may not accept the proxy's certificate.") from error
        raise
    if result:
        raise ConsoleRefused(reason=await _reason(stream) if minor == 8 else "The host refuses.")


async def _reason(stream: IOStream) -> str:
    (length,) = struct.unpack(">I", await stream.read_bytes(4))
    said = await stream.read_bytes(length) if 0 < length <= _LONGEST_REASON else b""
    return f"The host refuses: {said.decode(errors='replace') or 'no reason'}"


def _listed(types: Collection[int], names: dict[int, str]) -> str:
    return " or ".join(names.get(each, f"security of type {each}") for each in types) or "no security that it names"


class Welcome:
    """The proxy's part of the beginning with a viewer: `hello`, and then what `answer` says to each of its messages,
    until it is over. With a `refusal` the viewer hears that, and the console is to be closed when it is over."""

    hello = _VERSION % 8

    def __init__(self, refusal: str = "") -> None:
        self._refusal, self._over = refusal, False
        self._minor, self._said = 0, b""

    @property
    def rest(self) -> bytes:
        """The viewer's bytes beyond its part."""
        return self._said

    def answer(self, said: bytes) -> tuple[bytes, bool]:
        """The bytes to send, and whether it is over. Raises ConsoleRefused for a viewer that does not speak RFB, or
        wants other security than it is offered."""
        self._said += said
        answer = b""
        if not self._minor:
            version = self._take(_VERSION_LENGTH)
            if not version:
                return b"", False
            self._minor = _minor_of_viewer(version)
            answer = self._security()
        if not self._over and (chosen := self._take(1)):
            if chosen[0] != NONE:
                raise ConsoleRefused(reason="The viewer wants security that the proxy does not offer.")
            answer += bytes(4) if self._minor == 8 else b""
            self._over = True
        return answer, self._over

    def _security(self) -> bytes:
        if self._minor == 3 or self._refusal:
            self._over = True
        if self._refusal:
            words = self._refusal.encode()
            return bytes(4 if self._minor == 3 else 1) + struct.pack(">I", len(words)) + words
        return struct.pack(">I", NONE) if self._minor == 3 else bytes((1, NONE))

    def _take(self, length: int) -> bytes:
        """So much of what the viewer said; empty until it is there."""
        if len(self._said) < length:
            return b""
        taken, self._said = self._said[:length], self._said[length:]
        return taken


def _minor_of_viewer(version: bytes) -> int:
    try:
        return _minor_of(version)
    except ConsoleRefused:
        raise ConsoleRefused(reason="The viewer does not speak RFB.") from None
