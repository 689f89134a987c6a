"""`/metrics`: what this process has counted, in the text format that Prometheus reads."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterable, Mapping

from api_cell.edge import missing_cells as missing
from cell_service.http.response import RenderedResponse
from mapping_db.cloud import Cloud

PATH = "/metrics"
PROCESS = "X-Polycell-Process"
"""A header of the page: the id of the process that has counted, for several may share a port."""
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counts of one process's answers, of one API. Thread-safe."""

    def __init__(self, api: str) -> None:
        self._api = api
        self._lock = threading.Lock()
        self._statuses: Counter[int] = Counter()
        self._missing: Counter[str] = Counter()

    def answered(self, answer: RenderedResponse) -> None:
        lacking = answer.headers.get(missing.HEADER)
        with self._lock:
            self._statuses[answer.status] += 1
            if lacking is not None:
                self._missing.update(missing.names(lacking))

    def page(self, cloud: Cloud) -> RenderedResponse:
        """All of it, with the state of the cells as this process knows it. None of them is waited for: of those that it
        has used and not heard of lately, the next page knows."""
        cloud.cells.watch_used()
        with self._lock:
            statuses, lacking = dict(self._statuses), dict(self._missing)
        health = cloud.cells.health().values()
        lines = [
            *_lines(
                "polycell_answers_total", "counter", "Answers by status.",
                (({"api": self._api, "status": str(status)}, count) for status, count in sorted(statuses.items())),
            ),
            *_lines(
                "polycell_answers_missing_cell_total", "counter", "Answers that lacked a cell which was down.",
                (({"api": self._api, "cell": cell}, count) for cell, count in sorted(lacking.items())),
            ),
            *_lines(
                "polycell_cell_up", "gauge", "Whether this process believes that a server of a cell answers.",
                (
                    ({"cell": cell.mapping.shown, "server": server}, 0 if state.is_open else 1)
                    for cell in health
                    for server, state in (("database", cell.database), ("queue", cell.queue))
                ),
            ),
        ]  # fmt: skip
        headers = {"Content-Type": CONTENT_TYPE, PROCESS: str(os.getpid())}
        return RenderedResponse(200, ("\n".join(lines) + "\n").encode(), headers)


def _lines(name: str, kind: str, help_text: str, samples: Iterable[tuple[Mapping[str, str], int]]) -> list[str]:
    lines = [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"]
    for labels, value in samples:
        inside = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        lines.append(f"{name}{{{inside}}} {value}")
    return lines


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
