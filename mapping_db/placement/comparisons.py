"""The newest comparison of allocations with instances: how much drift it found, and of which cells."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from mapping_db import progress_marks
from mapping_db.placement.drift import DriftKind

_NAME = "comparison of allocations"


@dataclass(frozen=True, slots=True)
class Comparison:
    """`found`: how many of each kind; `instances`: how many were compared; `missed`: the cells that did not answer, of
    which nothing is known."""

    begun_at: datetime
    ended_at: datetime | None
    instances: int
    found: Mapping[DriftKind, int]
    missed: Sequence[str]


def newest(tx: Connection) -> Comparison | None:
    """The comparison that was begun or ended last; None when there was none yet."""
    text = progress_marks.get(tx, _NAME)
    if text is None:
        return None
    fields = json.loads(text)
    ended = fields["ended_at"]
    return Comparison(
        datetime.fromisoformat(fields["begun_at"]),
        datetime.fromisoformat(ended) if ended else None,
        fields["instances"],
        {DriftKind(kind): count for kind, count in fields["found"].items()},
        fields["missed"],
    )


def put(tx: Connection, comparison: Comparison, now: datetime) -> None:
    """Record it as the newest. One that has only begun keeps others from beginning, and the figures of the last."""
    fields: dict[str, Any] = {
        "begun_at": comparison.begun_at.isoformat(),
        "ended_at": comparison.ended_at.isoformat() if comparison.ended_at else None,
        "instances": comparison.instances,
        "found": {kind.value: count for kind, count in comparison.found.items()},
        "missed": list(comparison.missed),
    }
    progress_marks.put(tx, _NAME, json.dumps(fields), now)
