"""The headers that proxies add to a request: where it came from, and the address of the service as clients see it."""

from __future__ import annotations

from collections.abc import Mapping


def origin(headers: Mapping[str, str], protocol: str, *, behind_proxy: bool, link_prefix: str | None = None) -> str:
    """Scheme, host and path prefix of the service, without a slash at the end.

    `link_prefix` is the operator's setting and wins; the proxies' headers count only where the operator trusts them.
    """
    if link_prefix:
        return link_prefix.rstrip("/")
    host, prefix = headers.get("Host", "localhost"), ""
    if behind_proxy:
        forwarded = _forwarded(headers.get("Forwarded", ""))
        protocol = forwarded.get("proto") or _first(headers.get("X-Forwarded-Proto")) or protocol
        host = forwarded.get("host") or _first(headers.get("X-Forwarded-Host")) or host
        prefix = _first(headers.get("X-Forwarded-Prefix")).rstrip("/")
    return f"{protocol}://{host}{prefix}"


def remote_address(headers: Mapping[str, str], peer: str, *, behind_proxy: bool) -> str:
    """The address from which the request came."""
    if not behind_proxy:
        return peer
    return _forwarded(headers.get("Forwarded", "")).get("for") or _first(headers.get("X-Forwarded-For")) or peer


def _first(value: str | None) -> str:
    return (value or "").split(",")[0].strip()


def _forwarded(value: str) -> dict[str, str]:
    """The first element of a Forwarded header (RFC 7239)."""
    parts = {}
    for pair in _first(value).split(";"):
        name, _, text = pair.partition("=")
        parts[name.strip().lower()] = text.strip().strip('"')
    return parts
