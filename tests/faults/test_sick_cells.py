"""One server is sick in one way; what does not need it goes on, what needs it says so, and all of it comes back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pytest

from bench.sick_line import Mode
from mapping_db.cells.database import PROBE_SECONDS
from tests.edge.client import Reply
from tests.faults.sick import SICK, Part, SickCloud
from tests.federation.cloud import PATIENCE, Federation

pytestmark = [pytest.mark.real, pytest.mark.faults, pytest.mark.timeout(900)]

SLOW = 1.5 * PROBE_SECONDS * PATIENCE
"""Seconds: longer than these clouds wait for a probe, whether it has a connection or makes one."""
MOST_CONNECTIONS = 40
"""The pools that look at one database here (cells, conductor, probes, tests) have no more places together."""


@dataclass(frozen=True)
class Ill:
    """`mode` None: the server itself is stopped or killed, as `signal` says."""

    mode: Mode | None = None
    signal: str = ""
    delay: float = 0.0

    def __str__(self) -> str:
        return self.mode.value if self.mode is not None else self.signal


DEAD = [Ill(Mode.FROZEN), Ill(Mode.REFUSED), Ill(Mode.BLACK_HOLED), Ill(Mode.SLOW, delay=SLOW)]
SIGNALLED = [Ill(signal="stop"), Ill(signal="kill")]
HALF_DEAD = [Ill(Mode.FLAPPING), Ill(Mode.SLOW, delay=0.1)]


@pytest.fixture(scope="module")
def sick() -> Iterator[SickCloud]:
    """Whatever it connects to, it has connected to."""
    with SickCloud() as made:
        cloud = made.cloud
        for cell in cloud.names[1:]:
            uuid = cloud.boot(cell=cell)
            assert cloud.act(uuid, "os-stop").status == 202
            cloud.settled(uuid)
            cloud.until(partial(deleted, cloud, uuid), 60)
        yield made


@dataclass(frozen=True)
class Servers:
    near: str
    far: str
    doomed: str


@pytest.fixture
def servers(sick: SickCloud) -> Iterator[Servers]:
    """One in a healthy cell, two in the one that will be sick."""
    cloud = sick.cloud
    made = Servers(cloud.boot(cell="cell1"), cloud.boot(cell=SICK), cloud.boot(cell=SICK))
    assert {cloud.show(uuid)["status"] for uuid in (made.near, made.far, made.doomed)} == {"ACTIVE"}
    try:
        yield made
    finally:
        sick.heal()
        for uuid in (made.near, made.far, made.doomed):
            cloud.until(partial(deleted, cloud, uuid), 60)


def deleted(cloud: Federation, uuid: str) -> bool:
    return cloud.gone(uuid) or (cloud.admin.delete(f"/servers/{uuid}").status == 204 and cloud.gone(uuid))


def befall(sick: SickCloud, part: Part, ill: Ill) -> None:
    if ill.mode is not None:
        sick.fall_sick(part, ill.mode, ill.delay)
    elif ill.signal == "stop":
        sick.stop(part)
    else:
        sick.kill(part)


def live_on(cloud: Federation, servers: Servers) -> None:
    """A healthy cell does all that it is asked."""
    assert cloud.show(servers.near)["status"] == "ACTIVE"
    assert cloud.act(servers.near, "os-stop").status == 202
    assert cloud.settled(servers.near)["status"] == "SHUTOFF"
    assert cloud.act(servers.near, "os-start").status == 202
    assert cloud.settled(servers.near)["status"] == "ACTIVE"
    made = cloud.boot(cell="cell3")
    assert cloud.show(made)["status"] == "ACTIVE"
    assert cloud.admin.delete(f"/servers/{made}").status == 204
    cloud.until(lambda: cloud.gone(made))


def statuses(cloud: Federation) -> dict[str, str]:
    answer = cloud.admin.get("/servers/detail?all_tenants=1", version="2.96")
    assert answer.status == 200, answer.raw
    return {each["id"]: each["status"] for each in answer.json["servers"]}


def refused(answer: Reply) -> bool:
    assert answer.status != 503 or answer.headers["Retry-After"], answer.raw
    return answer.status == 503


def recover(sick: SickCloud, servers: Servers, threads: int) -> None:
    """Everything works again, without a restart, and nothing is left of the sickness."""
    sick.heal()
    cloud = sick.cloud
    cloud.until(lambda: all(not health.database.is_open and not health.queue.is_open
                            for health in cloud.cells.health().values()))  # fmt: skip
    cloud.until(lambda: not sick.cache_is_missed)
    cloud.until(lambda: cloud.admin.get(f"/servers/{servers.far}", version="2.96").status == 200)
    cloud.until(lambda: cloud.show(servers.far)["status"] in ("ACTIVE", "SHUTOFF"))
    cloud.settled(servers.far)
    cloud.until(lambda: not cloud.unfinished(), 60)
    made = cloud.boot(cell=SICK)
    assert cloud.show(made)["status"] == "ACTIVE"
    assert cloud.admin.delete(f"/servers/{made}").status == 204
    cloud.until(lambda: cloud.gone(made), 60)
    cloud.until(lambda: sick.fleeting_threads() <= threads, 60)
    assert all(line.connections <= MOST_CONNECTIONS for line in sick.lines.values())


def ready(sick: SickCloud, servers: Servers) -> int:
    """Everything has been used once. Answers how many threads there are that come and go."""
    cloud = sick.cloud
    for action, status in (("os-stop", "SHUTOFF"), ("os-start", "ACTIVE")):
        assert cloud.act(servers.far, action).status == 202
        assert cloud.settled(servers.far)["status"] == status
    return sick.fleeting_threads()


@pytest.mark.parametrize("ill", [*DEAD, *SIGNALLED], ids=str)
def test_a_cells_database_that_says_nothing(sick: SickCloud, servers: Servers, ill: Ill) -> None:
    cloud, threads = sick.cloud, ready(sick, servers)
    befall(sick, Part.DATABASE, ill)
    live_on(cloud, servers)
    seen = statuses(cloud)
    assert {seen[servers.near], seen[servers.far], seen[servers.doomed]} == {"ACTIVE", "UNKNOWN"}
    assert seen[servers.near] == "ACTIVE"
    assert cloud.show(servers.far, version="2.69")["status"] == "UNKNOWN"
    assert refused(cloud.admin.get(f"/servers/{servers.far}", version="2.1"))
    assert refused(cloud.act(servers.far, "os-stop"))
    assert cloud.admin.delete(f"/servers/{servers.doomed}").status == 204
    live_on(cloud, servers)
    sick.heal()
    cloud.until(lambda: cloud.gone(servers.doomed), 60)
    recover(sick, servers, threads)
    assert cloud.show(servers.far)["status"] == "ACTIVE"


@pytest.mark.parametrize("ill", HALF_DEAD, ids=str)
def test_a_cells_database_that_answers_now_and_then_or_late(sick: SickCloud, servers: Servers, ill: Ill) -> None:
    cloud, threads = sick.cloud, ready(sick, servers)
    befall(sick, Part.DATABASE, ill)
    for _ in range(5):
        seen = statuses(cloud)
        assert seen[servers.near] == "ACTIVE"
        assert seen[servers.far] in ("ACTIVE", "UNKNOWN")
        assert cloud.show(servers.far)["status"] in ("ACTIVE", "UNKNOWN")
    live_on(cloud, servers)
    assert cloud.admin.delete(f"/servers/{servers.doomed}").status == 204
    sick.heal()
    cloud.until(lambda: cloud.gone(servers.doomed), 60)
    recover(sick, servers, threads)


@pytest.mark.parametrize("ill", [*DEAD, *SIGNALLED, *HALF_DEAD], ids=str)
def test_a_cells_broker(sick: SickCloud, servers: Servers, ill: Ill) -> None:
    cloud, threads = sick.cloud, ready(sick, servers)
    befall(sick, Part.QUEUE, ill)
    live_on(cloud, servers)
    assert cloud.show(servers.far)["status"] == "ACTIVE"
    assert statuses(cloud)[servers.far] == "ACTIVE"
    assert cloud.act(servers.far, "os-stop").status == 202, "it stands in the cell's database, and waits"
    assert cloud.admin.delete(f"/servers/{servers.doomed}").status == 204
    live_on(cloud, servers)
    sick.heal()
    cloud.until(lambda: cloud.gone(servers.doomed), 60)
    recover(sick, servers, threads)
    assert cloud.show(servers.far)["status"] == "SHUTOFF"


@pytest.mark.parametrize("ill", [*DEAD, *SIGNALLED, *HALF_DEAD], ids=str)
def test_memcached(sick: SickCloud, servers: Servers, ill: Ill) -> None:
    cloud, threads = sick.cloud, ready(sick, servers)
    befall(sick, Part.CACHE, ill)
    live_on(cloud, servers)
    assert cloud.act(servers.far, "os-stop").status == 202
    assert cloud.settled(servers.far)["status"] == "SHUTOFF"
    assert cloud.admin.delete(f"/servers/{servers.doomed}").status == 204
    cloud.until(lambda: cloud.gone(servers.doomed), 60)
    seen = statuses(cloud)
    assert (seen[servers.near], seen[servers.far]) == ("ACTIVE", "SHUTOFF")
    recover(sick, servers, threads)


@pytest.mark.parametrize("ill", DEAD, ids=str)
def test_the_global_database(sick: SickCloud, servers: Servers, ill: Ill) -> None:
    """Known cells and cached mappings go on; what needs it says when to come again."""
    cloud, threads = sick.cloud, ready(sick, servers)
    befall(sick, Part.GLOBAL, ill)
    for _ in range(3):
        assert {cloud.show(uuid)["status"] for uuid in (servers.near, servers.far)} == {"ACTIVE"}
    for uuid in (servers.near, servers.far):
        assert cloud.act(uuid, "os-stop").status == 202
        assert cloud.settled(uuid)["status"] == "SHUTOFF"
        assert cloud.act(uuid, "os-start").status == 202
        assert cloud.settled(uuid)["status"] == "ACTIVE"
    assert refused(cloud.post_server())
    assert refused(cloud.admin.get("/servers", version="2.96"))
    assert refused(cloud.act(servers.near, "resize", {"flavorRef": "1"}))
    assert cloud.admin.put(f"/servers/{servers.near}", {"server": {"name": "renamed"}}).status == 200
    assert cloud.admin.post(f"/servers/{servers.near}/metadata", {"metadata": {"a": "1"}}).status == 200
    assert cloud.admin.delete(f"/servers/{servers.doomed}").status == 204
    cloud.until(lambda: not any(servers.doomed in guests for guests in cloud.guests().values()), 60)
    sick.heal()
    cloud.until(lambda: cloud.admin.get("/servers", version="2.96").status == 200)
    cloud.until(lambda: cloud.gone(servers.doomed), 60)
    cloud.until(lambda: cloud.admin.get("/servers?name=renamed").json["servers"], 60)
    recover(sick, servers, threads)


@pytest.mark.parametrize("ill", [*DEAD, *HALF_DEAD], ids=str)
def test_the_global_broker(sick: SickCloud, servers: Servers, ill: Ill) -> None:
    """Super-conductors find their work in the global database, if nobody wakes them."""
    cloud, threads = sick.cloud, ready(sick, servers)
    befall(sick, Part.GLOBAL_QUEUE, ill)
    live_on(cloud, servers)
    assert cloud.admin.delete(f"/servers/{servers.doomed}").status == 204
    cloud.until(lambda: cloud.gone(servers.doomed), 60)
    recover(sick, servers, threads)
    assert cloud.show(servers.far)["status"] == "ACTIVE"
