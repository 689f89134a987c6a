"""Frames of the local queue: two lengths of four bytes, a JSON head, and a body of plain bytes."""

from __future__ import annotations

import asyncio
import json
import struct
from typing import Any

_LENGTHS = struct.Struct("!II")
LARGEST = 64 * 2**20
Head = dict[str, Any]


def frame(head: Head, body: bytes = b"") -> bytes:
    text = json.dumps(head).encode()
    return _LENGTHS.pack(len(text), len(body)) + text + body


async def read(reader: asyncio.StreamReader) -> tuple[Head, bytes]:
    """The next frame. Raises OSError, EOFError at the end, and ValueError for what is no frame."""
    of_head, of_body = _LENGTHS.unpack(await reader.readexactly(_LENGTHS.size))
    if of_head + of_body > LARGEST:
        raise ValueError("a frame of impossible length")
    head: Head = json.loads(await reader.readexactly(of_head))
    return head, await reader.readexactly(of_body)
