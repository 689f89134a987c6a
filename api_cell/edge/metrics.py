"""`/metrics`: what this process has counted, in the formats that Prometheus reads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client import disable_created_metrics as leave_out_times_of_creation
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from api_cell.edge import missing_cells as missing
from cell_service import version
from cell_service.errors import DatabaseUnavailable
from cell_service.http.response import RenderedResponse
from mapping_db.cloud import Cloud
from mapping_db.placement import comparisons
from mapping_db.placement.drift import DriftKind

PATH = "/metrics"
PROCESS = "X-Polycell-Process"
"""A header of the page: the id of the process that has counted, for several may share a port."""
OTHER = "other"
"""The label of unknown paths and methods: clients choose those, and their number has no bound."""
METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

leave_out_times_of_creation()  # type: ignore[no-untyped-call]


class Metrics:
    """Counts of one process's answers, of one API. Thread-safe.

    The series of a label set are looked up once: the library takes ten times as long for that as for counting.
    """

    def __init__(self, api: str, cloud: Cloud, in_flight: Callable[[], int]) -> None:
        self._registry = made = CollectorRegistry()
        answers = Counter("polycell_answers", "Answers by status.", ("api", "status"), registry=made)
        lacking = Counter("polycell_answers_missing_cell", "Answers that lacked a cell which was down.",
                          ("api", "cell"), registry=made)  # fmt: skip
        seconds = Histogram("polycell_request_seconds", "Time from a request's headers to its answer.",
                            ("api", "method", "route"), buckets=SECONDS, registry=made)  # fmt: skip
        waiting = Gauge("polycell_requests_in_flight", "Requests that have begun and are not answered.", ("api",),
                        registry=made)  # fmt: skip
        waiting.labels(api).set_function(in_flight)
        Info("polycell_build", "The version that runs.", registry=made).info({"version": version.installed()})
        ProcessCollector(registry=made)
        made.register(_Cells(cloud))
        made.register(_Drift(cloud))
        self._answers = cache(lambda status: answers.labels(api, str(status)))
        self._lacking = cache(lambda cell: lacking.labels(api, cell))
        self._seconds = cache(lambda method, route: seconds.labels(api, method, route))

    def answered(self, method: str, route: str | None, answer: RenderedResponse, seconds: float) -> None:
        """Count an answer. `route`: the path's template, None for a path that is none of the API's."""
        self._answers(answer.status).inc()
        self._seconds(method if method in METHODS else OTHER, route or OTHER).observe(seconds)
        cells = answer.headers.get(missing.HEADER)
        if cells is not None:
            for cell in missing.names(cells):
                self._lacking(cell).inc()

    def page(self, accept: str) -> RenderedResponse:
        """All of it, in the format that the scraper prefers."""
        encode, content_type = choose_encoder(accept)
        headers = {"Content-Type": content_type, PROCESS: str(os.getpid())}
        return RenderedResponse(200, encode(self._registry), headers)


class _Cells(Collector):
    """The state of the cells as this process knows it. None of them is waited for: of those that it has used and not
    heard of lately, the next page knows."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def describe(self) -> Iterable[Metric]:
        """The registry learns names from here, and so collects nothing when this is registered."""
        return [self._family()]

    def collect(self) -> Iterable[Metric]:
        self._cloud.cells.watch_used()
        up = self._family()
        for cell in self._cloud.cells.health().values():
            for server, state in (("database", cell.database), ("queue", cell.queue)):
                up.add_metric((cell.mapping.shown, server), 0 if state.is_open else 1)
        return [up]

    def _family(self) -> GaugeMetricFamily:
        said = "Whether this process believes that a server of a cell answers."
        return GaugeMetricFamily("polycell_cell_up", said, labels=("cell", "server"))


class _Drift(Collector):
    """The findings of the newest comparison of allocations with instances, by any super-conductor. Without the global
    database, or before the first comparison, there is none."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def describe(self) -> Iterable[Metric]:
        return [self._found(), self._missed(), self._time()]

    def collect(self) -> Iterable[Metric]:
        found, missed, time = self._found(), self._missed(), self._time()
        try:
            with self._cloud.db.connect() as tx:
                newest = comparisons.newest(tx)
        except DatabaseUnavailable:
            return []
        if newest is None or newest.ended_at is None:
            return []
        for kind in DriftKind:
            found.add_metric((kind.value,), newest.found.get(kind, 0))
        missed.add_metric((), len(newest.missed))
        time.add_metric((), newest.ended_at.timestamp())
        return [found, missed, time]

    def _found(self) -> GaugeMetricFamily:
        said = "Allocations that differ from the instances, as of the newest comparison."
        return GaugeMetricFamily("polycell_placement_drift", said, labels=("kind",))

    def _missed(self) -> GaugeMetricFamily:
        said = "Cells that did not answer the newest comparison of allocations, so that nothing is known of them."
        return GaugeMetricFamily("polycell_placement_cells_not_compared", said, labels=())

    def _time(self) -> GaugeMetricFamily:
        said = "When the newest comparison of allocations ended."
        return GaugeMetricFamily("polycell_placement_compared_timestamp_seconds", said, labels=())
