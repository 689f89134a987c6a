"""What became of each published sample; `python -m` prints them all."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.edge import reference
from tests.surface.gallery import Gallery
from tests.surface.samples import Exchange, differences, exchanges, index

_NO_CONSOLE = "simulated hosts have no console of this kind: 400, as published"
OTHERWISE: dict[str, str] = {
    **dict.fromkeys((
        "os-remote-consoles/v2.8/create-mks-console-req.json",
    ), _NO_CONSOLE),
    "servers/v2.90/server-create-req.json": "the sample has no networks, which its version demands",
    "servers/v2.94/server-create-req.json": "the sample has no networks, which its version demands",
}  # fmt: skip
"""Samples that are not reproduced here, and why."""

REMOVED: tuple[str, ...] = (
    "os-agents/", "os-cells/", "os-certificates/", "os-fixed-ips/", "os-floating-ips-bulk/", "os-fping/",
    "os-networks-associate/", "os-security-group-default-rules/", "os-virtual-interfaces/",
    "os-admin-actions/admin-actions-reset-network", "os-tenant-networks/networks-post",
    "os-remote-consoles/get-rdp-console-post-resp",
)  # fmt: skip
"""Starts of samples whose requests are answered 410, or 404 and 400, at every version."""


def wrong(gallery: Gallery, exchange: Exchange) -> list[str]:
    """What differs from the samples when the exchange is acted out."""
    reply = gallery.act_out(exchange)
    if reply.status != exchange.status:
        return [f"answers {reply.status}, not {exchange.status}: {reply.raw[:200]!r}"]
    if exchange.response is None:
        return []
    return differences(reference.sample(exchange.response), reply.json)


def main() -> None:
    """Print each sample with OK, or why not."""
    with tempfile.TemporaryDirectory() as directory:
        gallery = Gallery(Path(directory))
        try:
            told = dict.fromkeys(index(), "belongs to no request that is served")
            for exchange in exchanges():
                found = "; ".join(wrong(gallery, exchange))
                told |= dict.fromkeys(exchange.samples, OTHERWISE.get(exchange.name) or found or "OK")
        finally:
            gallery.close()
    for name, outcome in told.items():
        sys.stdout.write(f"{name}\t{outcome}\n")
    sys.stdout.write(f"{list(told.values()).count('OK')} of {len(told)}\n")


if __name__ == "__main__":
    main()
