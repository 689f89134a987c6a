"""Media types that a client accepts, and the page of a fault for one that takes no JSON."""

from __future__ import annotations

from html import escape

_JSON = ("application/json", "application/*", "*/*")


def accepts_json(header: str) -> bool:
    """Whether an Accept header ("" accepts anything) admits application/json. The most specific range decides."""
    quality: dict[str, float] = {}
    for part in header.split(","):
        media, *parameters = (word.strip().lower() for word in part.split(";"))
        weight = next((word[2:] for word in parameters if word.startswith("q=")), "1")
        try:
            quality[media] = float(weight)
        except ValueError:
            quality[media] = 0.0
    known = [quality[media] for media in _JSON if media in quality]
    return known[0] > 0 if known else not header.strip()


def fault_page(status: int, title: str, message: str) -> bytes:
    """An HTML document that says what a fault's JSON would."""
    heading = f"{status} {escape(title)}"
    page = f"<html><head><title>{heading}</title></head><body><h1>{heading}</h1>{escape(message)}</body></html>"
    return page.encode()
