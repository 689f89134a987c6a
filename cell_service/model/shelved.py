"""The record that a cell keeps of a shelved instance, in its system metadata under nova's names.

The image's id is stored from the moment in which shelving is accepted until the image is known to be gone; so
whatever dies meanwhile, the next worker on the instance knows which image there may be.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

IMAGE, AT, HOST = "shelved_image_id", "shelved_at", "shelved_host"
_KEYS = frozenset({IMAGE, AT, HOST})


def image_of(system_metadata: Mapping[str, str]) -> str | None:
    """The id of the image that may have been made when the instance was shelved; None when none was."""
    return system_metadata.get(IMAGE) or None


def begun(system_metadata: Mapping[str, str], image_id: str) -> dict[str, str]:
    """The metadata of an instance that is to be shelved as that image."""
    return {**_without(system_metadata), IMAGE: image_id}


def done(system_metadata: Mapping[str, str], image_id: str, host: str | None, now: datetime) -> dict[str, str]:
    """The metadata of an instance that is shelved since now."""
    return {**_without(system_metadata), IMAGE: image_id, AT: now.isoformat(), HOST: host or ""}


def ended(system_metadata: Mapping[str, str], *, image_gone: bool) -> dict[str, str]:
    """The metadata of an instance that is shelved no more; the id of an image that is left is kept."""
    image_id = image_of(system_metadata)
    rest = _without(system_metadata)
    return rest if image_gone or image_id is None else {**rest, IMAGE: image_id}


def since(system_metadata: Mapping[str, str]) -> datetime | None:
    """When it was shelved; None when that is not known."""
    text = system_metadata.get(AT)
    return datetime.fromisoformat(text) if text else None


def _without(system_metadata: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in system_metadata.items() if name not in _KEYS}
