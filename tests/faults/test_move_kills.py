"""Random kills, of any process, database or broker, while servers and hosts move about: the books are right after."""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Iterator

import pytest

from tests.faults import bursts, crowd, move_books
from tests.faults.crowd import Crowd
from tests.faults.installation import CELLS, Installation, Unmet
from tests.faults.turmoil import Spare, Turmoil

KILLS = int(os.environ.get("POLYCELL_KILLS", "25"))
SEED = int(os.environ.get("POLYCELL_SEED", "1"))
CLIENTS = 8
HOSTS_PER_CELL = 3
SETTLE_SECONDS = 240.0

pytestmark = [pytest.mark.real, pytest.mark.faults, pytest.mark.timeout(900 + 5 * KILLS)]

log = logging.getLogger(__name__)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Cold migrations may cross cells, too."""
    policy = tmp_path_factory.mktemp("policy") / "policy.yaml"
    policy.write_text('"compute:servers:resize:cross_cell": "role:admin"\n', encoding="utf-8")
    environment = {"OS_OSLO_POLICY__POLICY_FILE": str(policy), "OS_PLACEMENT_AUDIT__INTERVAL": "1"}
    made = Installation(tmp_path_factory.mktemp("moving"), hosts_per_cell=HOSTS_PER_CELL, environment=environment)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def spare(cloud: Installation) -> Iterator[Spare]:
    made = Spare(cloud)
    made.start()
    yield made
    made.stop()


def test_after_random_kills_during_moves_the_books_are_right(cloud: Installation, spare: Spare) -> None:
    chance = random.Random(SEED)
    hosts = [f"{cell}-host{number}" for cell in CELLS for number in range(1, HOSTS_PER_CELL + 1)]
    turmoil, people = Turmoil(cloud, spare, chance), Crowd(cloud, CLIENTS, hosts, SEED)
    people.start()
    try:
        for _ in range(KILLS):
            until = time.monotonic() + chance.uniform(0.3, 2.2)
            while time.monotonic() < until:
                time.sleep(0.1)
                turmoil.mend()
            turmoil.strike()
    finally:
        people.stop()
    began = time.monotonic()
    crowd.calm(cloud, turmoil, hosts)
    cloud.until(lambda: not (left := move_books.unsettled(cloud)) or Unmet("\n".join(left)), SETTLE_SECONDS)
    log.info("settled after %.1f s; kills %s", time.monotonic() - began, dict(turmoil.counted))
    log.info("accepted %s; moves %s", dict(people.accepted), dict(move_books.told(cloud)))
    move_books.demand_balance(cloud)
    assert not people.wrongs

    bursts.sweep(cloud)
    cloud.until(lambda: not (left := move_books.unsettled(cloud)) or Unmet("\n".join(left)), SETTLE_SECONDS)
    assert move_books.demand_balance(cloud) == {}
    assert move_books.drift(cloud) == []
