"""Thousands of hosts of a few models: what they have in common is kept once."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from cell_service.model.host import NodeReport


class Interned:
    """Equal values, one object. For one thread at a time."""

    def __init__(self) -> None:
        self._cpu_infos: dict[str, dict[str, Any]] = {}
        self._stats: dict[str, dict[str, str]] = {}
        self._supported: dict[tuple[tuple[str, str, str], ...], tuple[tuple[str, str, str], ...]] = {}

    def report(self, report: NodeReport) -> NodeReport:
        """Drop fields that no filter reads, and share large ones with equal reports, to save memory."""
        return replace(
            report,
            cpu_info=self._cpu_infos.setdefault(json.dumps(report.cpu_info, sort_keys=True), report.cpu_info),
            stats=self._stats.setdefault(json.dumps(report.stats, sort_keys=True), report.stats),
            supported_instances=self._supported.setdefault(report.supported_instances, report.supported_instances),
            traits=(),
            uptime=None,
        )
