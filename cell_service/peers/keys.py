"""The key manager, as far as volumes are encrypted with its keys."""

from __future__ import annotations

from typing import Protocol


class Keys(Protocol):
    """Symmetric keys by their ids. Every verb raises PeerUnavailable when the key manager does not answer, or refuses
    our account."""

    @property
    def are_reachable(self) -> bool:
        """Whether what this needs is installed here. The key manager may be down all the same."""

    def get(self, key_id: str) -> bytes:
        """Raises KeyNotFound."""

    def create(self, algorithm: str, bits: int) -> str:
        """Make a key. Returns its id."""

    def copy(self, key_id: str) -> str:
        """Make a key with the same bytes, which lives on when the other one is deleted. Returns its id. Raises
        KeyNotFound."""

    def delete(self, key_id: str) -> None:
        """Delete the key. Not there: no error."""
