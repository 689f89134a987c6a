"""The administrator's password that a guest has set and encrypted: stored in pieces, as nova stores it."""

from __future__ import annotations

from cell_service.model.instance import Instance

PIECES, PIECE_BYTES = 4, 255
MOST_BYTES = PIECES * PIECE_BYTES


def password_of(instance: Instance) -> str:
    """The password that the guest has posted; empty when it has posted none."""
    return "".join(instance.system_metadata.get(_name(number), "") for number in range(PIECES))


def with_password(system_metadata: dict[str, str], password: str) -> dict[str, str]:
    """The system metadata with this password (empty: with none). At most MOST_BYTES characters."""
    kept = {key: value for key, value in system_metadata.items() if key not in _NAMES}
    pieces = (password[start : start + PIECE_BYTES] for start in range(0, len(password), PIECE_BYTES))
    return kept | {_name(number): piece for number, piece in enumerate(pieces)}


def _name(number: int) -> str:
    return f"password_{number}"


_NAMES = frozenset(_name(number) for number in range(PIECES))
