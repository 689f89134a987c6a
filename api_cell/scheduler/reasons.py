"""The words of the fault "No valid host": how many hosts each reason excluded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from api_cell.scheduler.ranking import Refusal

_REASONS_SHOWN = 3


def explain(refusals: Collection[Refusal]) -> str:
    """One line: "There are not enough hosts available. 3 hosts: ComputeFilter refused 2 (is down); 1 lacks 512
    MEMORY_MB."."""
    if not refusals:
        return "There are not enough hosts available. No host is known."
    by_filter: dict[str, Counter[str]] = {}
    for name, reason in refusals:
        by_filter.setdefault(name, Counter())[reason] += 1
    parts = []
    for name, reasons in sorted(by_filter.items(), key=lambda item: (item[0] == "", -item[1].total(), item[0])):
        shown = reasons.most_common(_REASONS_SHOWN)
        if not name:
            parts += [f"{count} {reason}" for reason, count in reasons.most_common()]
        elif len(reasons) == 1:
            parts.append(f"{name} refused {reasons.total()} ({shown[0][0]})")
        else:
            listed = ", ".join(f"{count} {reason}" for reason, count in shown)
            more = ", …" if len(reasons) > len(shown) else ""
            parts.append(f"{name} refused {reasons.total()} ({listed}{more})")
    total = len(refusals)
    hosts = "1 host" if total == 1 else f"{total} hosts"
    return f"There are not enough hosts available. {hosts}: {'; '.join(parts)}."
