"""What `/metrics` counts, and that no client can make it grow."""

from __future__ import annotations

import socket

import pytest
from prometheus_client.parser import text_string_to_metric_families as parsed

from tests.edge.client import Client
from tests.edge.conftest import Gates, Serve

Labels = frozenset[tuple[str, str]]
VERBOSE = "application/openmetrics-text; version=1.0.0"


def series(client: Client) -> dict[str, dict[Labels, float]]:
    """Every series that the API shows: name → labels → value."""
    found: dict[str, dict[Labels, float]] = {}
    reply = client.get("/metrics", whole=True, token=None)
    assert (reply.status, reply.headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    for family in parsed(reply.raw.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return found


def routes(client: Client) -> dict[tuple[str, str], float]:
    """How many requests were counted, by method and route."""
    counted = series(client)["polycell_request_seconds_count"]
    return {(dict(labels)["method"], dict(labels)["route"]): value for labels, value in counted.items()}


def test_answers_are_counted_by_status_and_requests_by_route(client: Client) -> None:
    for name in ("one", "two"):
        assert client.get(f"/things/{name}").status == 200
    assert client.get("/missing").status == 404
    assert client.post("/things", {}).status == 400
    found = series(client)
    statuses = {dict(labels)["status"]: value for labels, value in found["polycell_answers_total"].items()}
    assert statuses == {"200": 2, "404": 1, "400": 1}
    assert routes(client) == {
        ("GET", "/things/{id}"): 2, ("GET", "/missing"): 1, ("POST", "/things"): 1, ("GET", "/metrics"): 1,
    }  # fmt: skip
    assert {dict(labels)["api"] for labels in found["polycell_request_seconds_sum"]} == {"compute"}
    assert all(value > 0 for value in found["polycell_request_seconds_sum"].values())


def test_what_clients_choose_makes_no_new_series(client: Client) -> None:
    for number in range(3):
        assert client.get(f"/nothing/{number}").status == 404
        assert client.request(f"FETCH{number}", "/missing").status == 405
    assert client.get("/nowhere", whole=True, token=None).status == 300
    assert routes(client) == {("GET", "other"): 4, ("other", "/missing"): 3}


def test_the_version_and_the_process_are_shown_and_no_time_of_creation(client: Client) -> None:
    found = series(client)
    assert [set(dict(labels)) for labels in found["polycell_build_info"]] == [{"version"}]
    assert found["process_resident_memory_bytes"]
    assert not [name for name in found if name.endswith("_created")]


def test_requests_that_wait_are_in_flight(serve: Serve, gates: Gates) -> None:
    server, client = serve()
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as slow:
        slow.sendall(b"GET /v2.1/wait HTTP/1.1\r\nHost: x\r\nX-Auth-Token: a:p\r\n\r\n")
        assert gates.entered.acquire(timeout=60)
        ((_, waiting),) = series(client)["polycell_requests_in_flight"].items()
        assert waiting == 2  # the one that waits, and the scrape
        gates.open.set()
        assert slow.recv(12) == b"HTTP/1.1 200"


@pytest.mark.parametrize(("accept", "kind"), [(VERBOSE, "application/openmetrics-text"), ("*/*", "text/plain")])
def test_the_scraper_chooses_the_format(client: Client, accept: str, kind: str) -> None:
    reply = client.get("/metrics", whole=True, headers={"Accept": accept})
    assert reply.headers["Content-Type"].startswith(kind)
    assert reply.raw.endswith(b"# EOF\n") == (accept == VERBOSE)
