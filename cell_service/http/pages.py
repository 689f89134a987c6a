"""The headers of pages: a browser loads and runs nothing in them but what they came with."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Collection

_POLICY = "Content-Security-Policy"
_INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


def page_headers(page: str, *, connect: str = "'self'", hosts: Collection[str] = ()) -> dict[str, str]:
    """The headers of a page whose scripts and styles are all inline. `connect`: the addresses that its scripts may
    use."""
    hashes: dict[str, list[str]] = {"script": [], "style": []}
    for kind, content in _INLINE.findall(page):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        hashes[kind].append(f"'sha256-{digest}'")
    allowed = "; ".join(f"{kind}-src {' '.join(found)}" for kind, found in hashes.items() if found)
    policy = f"default-src 'none'; {allowed}; connect-src {connect}; base-uri 'none'; form-action 'none'"
    framing = frame_headers(hosts)
    return {**framing, _POLICY: f"{policy}; {framing[_POLICY]}"}


def file_page_headers() -> dict[str, str]:
    """Of a page whose scripts and styles are all files of its own origin; images may also come within its styles."""
    kinds = "script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'"
    framing = frame_headers()
    return {**framing, _POLICY: f"default-src 'none'; {kinds}; base-uri 'none'; form-action 'none'; {framing[_POLICY]}"}


def frame_headers(hosts: Collection[str] = ()) -> dict[str, str]:
    """The headers of files of any kind: only pages of their own origin, and of these hosts, may frame them."""
    return {
        _POLICY: " ".join(["frame-ancestors", "'self'", *hosts]),
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "SAMEORIGIN",
    }
