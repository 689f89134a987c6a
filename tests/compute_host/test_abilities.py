"""Drivers' abilities, as hosts report them."""

from __future__ import annotations

from pathlib import Path

import pytest

from cell_service.context import SYSTEM_CLOCK
from cell_service.errors import Invalid
from cell_service.model.ability import OF_HARDWARE, Ability
from compute_host.config import HostSettings
from compute_host.timers import Timers
from compute_host.virt import make_driver
from compute_host.virt.abilities import abilities_of, nodes_of
from compute_host.virt.driver import Driver
from tests.suites.steps import StepPool

LIBVIRT = {
    Ability.CRASH_DUMPS,
    Ability.INTERFACES,
    Ability.PASSWORDS,
    Ability.RECEIVES,
    Ability.RESCUE,
    Ability.RESIZES,
    Ability.SNAPSHOTS,
    Ability.VOLUMES,
    Ability.VOLUME_SWAPS,
}
"""What docs/hypervisors.md says of it."""


def driver_named(name: str, directory: Path) -> Driver:
    settings = HostSettings(host="h1", state=directory / "h1", image_cache=directory / "i", compute_driver=name)
    try:
        return make_driver(settings, Timers(SYSTEM_CLOCK, threaded=False), StepPool())
    except Invalid as error:
        pytest.skip(str(error))


def test_a_simulated_host_has_all_abilities_and_reports_them(tmp_path: Path) -> None:
    driver = driver_named("simulated.SimulatedDriver", tmp_path)
    driver.start(lambda _uuid, _state: None)
    assert set(abilities_of(driver)) == {each.value for each in set(Ability) - OF_HARDWARE}
    (node,) = nodes_of(driver)
    assert all(node.is_able(ability) for ability in Ability)
    driver.stop()


def test_a_libvirt_host_reports_what_its_driver_implements(tmp_path: Path) -> None:
    driver = driver_named("libvirt.LibvirtDriver", tmp_path)
    assert set(abilities_of(driver)) == {each.value for each in LIBVIRT}
