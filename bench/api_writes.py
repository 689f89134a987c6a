"""Requests that change something, for `bench.api`: actions, each of a server without a task, and what is made."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bench.counting import counted
from bench.small_cloud import KEY, SmallCloud

ACTIONS: tuple[dict[str, Any], ...] = (
    {"pause": None}, {"suspend": None}, {"os-stop": None}, {"reboot": {"type": "HARD"}}, {"lock": None},
    {"unlock": None}, {"os-resetState": {"state": "error"}}, {"changePassword": {"adminPass": "words"}},
    {"trigger_crash_dump": None}, {"shelve": None},
)  # fmt: skip
MADE: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/os-keypairs", {"keypair": {"name": "bench", "public_key": KEY}}),
    ("/os-server-groups", {"server_group": {"name": "bench", "policies": ["affinity"]}}),
    ("/os-aggregates", {"aggregate": {"name": "bench"}}),
    ("/flavors", {"flavor": {"name": "bench", "ram": 64, "vcpus": 1, "disk": 1}}),
)
VERSION = (2, 60)
NEEDED = 2 * len(ACTIONS)
"""Servers: each action is requested of one that fills caches, and of one that is measured."""


@dataclass(frozen=True, slots=True)
class WriteCost:
    """What one request took in the API, up to its answer."""

    request: str
    status: int
    cpu_ms: float
    global_statements: int
    cell_statements: int


def write_costs(cloud: SmallCloud) -> Iterator[WriteCost]:
    """Each action and each thing made, once caches are full. The cloud has at least NEEDED servers."""
    uuids = iter(cloud.uuids)
    for body in ACTIONS:
        (name,) = body
        first, second = next(uuids), next(uuids)
        cloud.ask(f"/servers/{first}/action", VERSION, "POST", body)
        yield _measured(cloud, f"POST /servers/{{id}}/action {name}", f"/servers/{second}/action", body)
    for path, body in MADE:
        ((kind, words),) = body.items()
        version = (2, 15) if "policies" in words else VERSION
        cloud.ask(path, version, "POST", {kind: {**words, "name": "first"}})
        yield _measured(cloud, f"POST {path}", path, body, version)


def _measured(
    cloud: SmallCloud, request: str, path: str, body: dict[str, Any], version: tuple[int, int] = VERSION
) -> WriteCost:
    with counted(cloud.directory) as sent:
        begun = time.process_time()
        answer = cloud.ask(path, version, "POST", body)
        took = time.process_time() - begun
    here = sent.pop("global", 0)
    return WriteCost(request, answer.status, round(took * 1000, 3), here, sum(sent.values()))
