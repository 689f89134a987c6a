"""The screen of a simulated guest, by VNC (RFB 3.8, RFC 6143): dark, with a cursor that goes on with each key."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress

VERSION = b"RFB 003.008\n"
WIDTH, HEIGHT = 720, 400
_COLUMNS, _LETTER = 80, (9, 16)
_FORMAT = struct.pack(">BBBBHHHBBB3x", 32, 24, 0, 1, 255, 255, 255, 16, 8, 0)
_RAW, _RRE = 0, 2
_DARK, _LIGHT = b"\x10\x10\x10\x00", b"\xc0\xc0\xc0\x00"
"""Grey, which is the same in any order of colours."""
_PIXELS, _ENCODINGS, _UPDATE, _KEY, _POINTER, _TEXT = 0, 2, 3, 4, 5, 6
_LENGTHS = {_PIXELS: 19, _ENCODINGS: 3, _UPDATE: 9, _KEY: 7, _POINTER: 5, _TEXT: 7}
"""Bytes of each message of a client, after its first."""


def serve(client: socket.socket, name: str) -> None:
    """Show the guest's screen to the client until it goes. Raises OSError."""
    with suppress(EOFError):
        _Screen(client, name).serve()


class _Screen:
    def __init__(self, client: socket.socket, name: str) -> None:
        self._client, self._name = client, name.encode()
        self._encoding, self._cursor, self._waits = _RAW, 0, False

    def serve(self) -> None:
        self._client.sendall(VERSION)
        self._read(len(VERSION))
        self._client.sendall(b"\x01\x01")  # one kind of security: none
        self._read(1)
        self._client.sendall(bytes(4))
        self._read(1)
        self._client.sendall(struct.pack(">HH", WIDTH, HEIGHT) + _FORMAT + struct.pack(">I", len(self._name)))
        self._client.sendall(self._name)
        while True:
            self._answer(self._read(1)[0])

    def _answer(self, kind: int) -> None:
        if kind not in _LENGTHS:
            raise EOFError
        message = self._read(_LENGTHS[kind])
        if kind == _ENCODINGS:
            count = struct.unpack(">xH", message)[0]
            self._encoding = _RRE if _RRE in struct.unpack(f">{count}i", self._read(4 * count)) else _RAW
        elif kind == _TEXT:
            self._read(abs(struct.unpack(">3xi", message)[0]))
        elif kind == _KEY and message[0]:
            self._cursor = (self._cursor + 1) % (_COLUMNS * (HEIGHT // _LETTER[1]))
            if self._waits:
                self._show()
        elif kind == _UPDATE:
            self._waits = bool(message[0])
            if not self._waits:
                self._show()

    def _show(self) -> None:
        self._waits = False
        row, column = divmod(self._cursor, _COLUMNS)
        width, height = _LETTER
        self._client.sendall(struct.pack(">BxHHHHHi", 0, 1, 0, 0, WIDTH, HEIGHT, self._encoding))
        if self._encoding == _RRE:
            place = struct.pack(">HHHH", column * width, row * height, width, height)
            self._client.sendall(struct.pack(">I", 1) + _DARK + _LIGHT + place)
            return
        dark = _DARK * WIDTH
        lit = _DARK * (column * width) + _LIGHT * width + _DARK * (WIDTH - (column + 1) * width)
        for line in range(HEIGHT):
            self._client.sendall(lit if line // height == row else dark)

    def _read(self, length: int) -> bytes:
        found = b""
        while len(found) < length:
            part = self._client.recv(length - len(found))
            if not part:
                raise EOFError
            found += part
        return found
