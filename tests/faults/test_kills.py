"""kill -9 of each part in the middle of creates and of deletes: what was promised is kept, and nothing is left over."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable

import pytest

from tests.faults import books, bursts
from tests.faults.installation import Installation

pytestmark = [pytest.mark.real, pytest.mark.faults, pytest.mark.timeout(900)]

log = logging.getLogger(__name__)

COUNT, FIRST = 20, 6
OUTAGE_SECONDS = 3.0

Act = Callable[[Installation], None]


def nothing(cloud: Installation) -> None:
    """The launcher starts its services again."""


VICTIMS: dict[str, tuple[Act, Act]] = {
    "api": (lambda cloud: cloud.kill("api"), nothing),
    "super-conductor": (lambda cloud: cloud.kill("super-conductor"), nothing),
    "conductor": (lambda cloud: cloud.kill("conductor", cell="cell1"), nothing),
    "agent": (lambda cloud: cloud.kill("compute", host="cell1-host1"), nothing),
    "rabbitmq": (lambda cloud: cloud.rabbitmq.kill(), lambda cloud: cloud.rabbitmq.start()),
    "mariadb": (lambda cloud: cloud.databases["cell1"].kill(), lambda cloud: cloud.databases["cell1"].start()),
    "memcached": (lambda cloud: cloud.memcached.stop(), lambda cloud: cloud.memcached.start()),
}


@pytest.fixture(params=sorted(VICTIMS))
def victim(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_accepted_servers_become_active_or_say_why_not(cloud: Installation, victim: str) -> None:
    kill, bring_back = VICTIMS[victim]
    burst = bursts.creating(cloud, COUNT)
    burst.midway(FIRST)
    kill(cloud)
    began = time.monotonic()
    burst.done_within(OUTAGE_SECONDS)
    bring_back(cloud)
    accepted = burst.results()
    bursts.settle(cloud)
    log.info("%s: settled after %.1f s", victim, time.monotonic() - began)
    shown = books.demand_balance(cloud)
    assert set(accepted) <= shown.keys()
    outcomes = Counter(each["status"] for each in shown.values())
    log.info("%s: %d of %d accepted, %s", victim, len(accepted), COUNT, dict(outcomes))
    bursts.sweep(cloud)
    books.demand_nothing(cloud)


def test_accepted_deletes_leave_nothing(cloud: Installation, victim: str) -> None:
    kill, bring_back = VICTIMS[victim]
    uuids = bursts.creating(cloud, COUNT).results()
    assert len(uuids) == COUNT
    bursts.settle(cloud)
    burst = bursts.deleting(cloud, uuids)
    burst.midway(FIRST)
    kill(cloud)
    began = time.monotonic()
    burst.done_within(OUTAGE_SECONDS)
    bring_back(cloud)
    assert len(burst.results()) == COUNT
    bursts.settle(cloud)
    log.info("%s: settled after %.1f s", victim, time.monotonic() - began)
    books.demand_nothing(cloud)
