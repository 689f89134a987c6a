"""The headers of pages: a browser loads and runs nothing in them but what they came with."""

from __future__ import annotations

from collections.abc import Collection

_POLICY = "Content-Security-Policy"


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
