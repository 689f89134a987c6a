"""The key manager, as far as hosts read certificates from it."""

from __future__ import annotations

from typing import Protocol

from cell_service.context import Context


class Certificates(Protocol):
    def get(self, ctx: Context, certificate_id: str) -> bytes | None:
        """The X.509 certificate (PEM or DER); None: there is none of this id that may be read. Raises
        PeerUnavailable."""
