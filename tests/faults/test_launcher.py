"""Everything killed at once: the next `polycell up` goes on with what is there."""

from __future__ import annotations

import pytest

from tests.faults import books, bursts
from tests.faults.installation import Installation

pytestmark = [pytest.mark.real, pytest.mark.faults, pytest.mark.timeout(900)]


def test_after_a_power_cut_up_goes_on_with_its_data(cloud: Installation) -> None:
    before = bursts.creating(cloud, 4).results()
    bursts.settle(cloud)
    burst = bursts.creating(cloud, 10)
    burst.midway(4)
    cloud.kill_all()
    accepted = burst.results()
    cloud.up()
    bursts.settle(cloud)
    shown = books.demand_balance(cloud)
    assert {*before, *accepted} <= shown.keys()
    assert {shown[uuid]["status"] for uuid in before} == {"ACTIVE"}
    bursts.sweep(cloud)
    books.demand_nothing(cloud)


def test_a_launcher_that_died_alone_leaves_a_cloud_that_can_be_taken_over(cloud: Installation) -> None:
    before = bursts.creating(cloud, 2).results()
    bursts.settle(cloud)
    cloud.kill_launcher()
    assert {each["id"] for each in cloud.user.servers()} == set(before)
    cloud.up()
    cloud.until_healthy()
    assert books.demand_balance(cloud).keys() == set(before)
    bursts.sweep(cloud)
    books.demand_nothing(cloud)
