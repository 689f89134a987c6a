"""The page of a console: a screen by noVNC or spice-html5, or a terminal by xterm.js. Its files are all in
`web`, and their address has a mark of what they contain, so that browsers keep them and still have the newest ones."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from pathlib import Path

from cell_service.http.pages import frame_headers

ROOT = Path(__file__).with_name("web")
_HOST = re.compile(r"wss?://[\w.:\[\]-]+")
_POLICY = "Content-Security-Policy"


def _mark() -> str:
    found = hashlib.sha256()
    for path in sorted(each for each in ROOT.rglob("*") if each.is_file()):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


VERSION = _mark()
_PAGE = (ROOT / "page.html").read_text("utf-8").replace("{files}", f"files/{VERSION}")


def page(nonce: str) -> str:
    """The page. Viewers make styles of their own, which are known by the nonce."""
    return _PAGE.replace("{nonce}", nonce)


def page_headers_of(nonce: str, sockets: str, hosts: Collection[str]) -> dict[str, str]:
    """The page's headers: it runs scripts of its own origin alone, and connects to nothing else. `sockets`: the address
    of web sockets there; `hosts`: those whose pages may frame it."""
    own = f" {sockets}" if _HOST.fullmatch(sockets) else ""
    kinds = (
        "default-src 'none'", "script-src 'self'", f"style-src 'self' 'nonce-{nonce}'", "img-src 'self' data:",
        "media-src blob:", f"connect-src 'self'{own}", "base-uri 'none'", "form-action 'none'",
    )  # fmt: skip
    framing = frame_headers(hosts)
    return {**framing, _POLICY: "; ".join((*kinds, framing[_POLICY]))}
