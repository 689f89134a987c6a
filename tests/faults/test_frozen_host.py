"""An agent that stops without dying: its cell does without it, and it finds its way back."""

from __future__ import annotations

import pytest

from tests.faults import books, bursts
from tests.faults.installation import Installation, Unmet

pytestmark = [pytest.mark.real, pytest.mark.faults, pytest.mark.timeout(900)]

HOST = "cell1-host1"


def test_servers_deleted_while_their_host_was_silent_are_gone_from_it_later(cloud: Installation) -> None:
    answers = [cloud.user.post_server(availability_zone=f"nova:{HOST}") for _ in range(3)]
    *doomed, kept = [answer.json()["server"]["id"] for answer in answers]
    bursts.settle(cloud)
    with cloud.frozen("compute", host=HOST):
        cloud.until(lambda: HOST in (down := hosts_down(cloud)) or Unmet(down))
        bursts.deleting(cloud, doomed).results()
        owed = {f"cell1 move_drop open on {HOST} of {uuid}" for uuid in doomed}
        cloud.until(lambda: (waiting := set(books.unsettled(cloud))) == owed or Unmet(waiting))
        assert [each["id"] for each in cloud.user.servers()] == [kept]
        assert books.allocations(cloud).keys() == {kept}
        assert books.guests(cloud).keys() == {*doomed, kept}
    bursts.settle(cloud)
    cloud.until(lambda: (here := books.guests(cloud).keys()) == {kept} or Unmet(here))
    assert books.demand_balance(cloud).keys() == {kept}
    bursts.sweep(cloud)
    books.demand_nothing(cloud)


def hosts_down(cloud: Installation) -> list[str]:
    return [host for cell in cloud.health()["cells"] for host in cell["hosts_down"]]
