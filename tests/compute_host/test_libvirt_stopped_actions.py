"""Actions on guests of libvirt that are stopped in the middle: at each call that the agent makes of its driver and its
peers, and that the driver makes of its storage, before it and after it.

Whatever stops them, in the end the action is done or undone, its record says which, and nothing is left over.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

pytest.importorskip("libvirt", reason="needs libvirt-python")

import libvirt

from cell_service.context import SYSTEM_CLOCK
from cell_service.db import actions, instances
from cell_service.model.block_device import volumes
from cell_service.model.lifecycle import PowerState, State, VmState
from cell_service.operations.builds import REBUILD
from cell_service.operations.deletes import RESTORE, SOFT_DELETE
from cell_service.operations.power import RESUME, START, STOP, SUSPEND
from cell_service.peers.volumes import Volumes
from compute_host.config import HostSettings
from compute_host.libvirt_settings import LibvirtSettings
from compute_host.virt.driver import GIB, Driver
from compute_host.virt.libvirt.domain import ROOT_SERIAL, volume_disks
from compute_host.virt.libvirt.driver import LibvirtDriver
from tests.real.databases import wait_until
from tests.real.libvirtd import PrivateLibvirtd
from tests.real.nbd import ServedVolumes
from tests.suites import stopped_cases as cases
from tests.suites.one_cell import OneCell
from tests.suites.steps import KillSwitch
from tests.suites.stopping import (
    HOST,
    Case,
    Meanwhile,
    Place,
    Stop,
    Storage,
    agent_dies,
    call_fails,
    check_told,
    fault_after,
    server_is_deleted,
)  # fmt: skip

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

STRIDE = int(os.environ.get("POLYCELL_STRIDE", "0"))
"""1: stopped at each call, 4: at every fourth; 0: at one that is drawn."""
USUAL_CALLS = 14
OF_STORAGE = ("make", "keep", "rescue", "unrescue", "remove")
OF_VOLUMES = ("connect", "connect_all", "disconnect", "disconnect_all")
IMAGE = b"\xf4\xeb\xfd".ljust(512, b"\0")


class Impatient(LibvirtDriver):
    """Guests that don't hear requests to shut down are not given time to."""

    def power_off(self, uuid: str, *, graceful_seconds: float) -> None:
        super().power_off(uuid, graceful_seconds=0)

    def volumes(self, uuid: str) -> dict[str, int]:
        """The volumes in both definitions of a running guest, and their sizes in GiB."""
        with self._guest(uuid) as found:
            stored, disks = (volume_disks(found.XMLDesc(flag)) for flag in (libvirt.VIR_DOMAIN_XML_INACTIVE, 0))
            assert stored.keys() == disks.keys()
            names = {key: disk.find("target") for key, disk in disks.items() if key != ROOT_SERIAL}
            return {
                key: found.blockInfo(target.get("dev", ""))[0] // GIB
                for key, target in names.items()
                if target is not None
            }


class CellOnScsi(OneCell):
    """Its guests run no system, and release disks on SCSI all the same."""

    def boot(self, host: str, *alternates: str, **fields: Any) -> str:  # type: ignore[override]
        return super().boot(host, *alternates, system_metadata={"image_hw_disk_bus": "scsi"}, **fields)


class Host:
    """One host of a libvirtd; of its drivers only the last one lives."""

    def __init__(self, libvirtd: PrivateLibvirtd) -> None:
        self._options = LibvirtSettings(connection_uri=libvirtd.uri, user_networking=True)
        self._made: list[LibvirtDriver] = []

    def driver(self, settings: HostSettings, switch: KillSwitch) -> Driver:
        self._end_last()
        made = Impatient(replace(settings, libvirt=self._options), SYSTEM_CLOCK)
        made._storage = switch.guard(made._storage, *OF_STORAGE)
        made._volumes = switch.guard(made._volumes, *OF_VOLUMES)
        self._made.append(made)
        return made

    def clear(self) -> None:
        """Remove the guests that are left, if a driver was made."""
        self._end_last()
        if self._made:
            cleaner = LibvirtDriver(self._made[-1]._settings, SYSTEM_CLOCK)
            cleaner.start(lambda _uuid, _state: None)
            for guest in cleaner.guests():
                cleaner.destroy(guest.uuid)
            cleaner.stop()
        self._made.clear()

    def _end_last(self) -> None:
        if self._made:
            self._made[-1].stop()


@pytest.fixture
def host(libvirtd: PrivateLibvirtd) -> Iterator[Host]:
    made = Host(libvirtd)
    yield made
    made.clear()


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    made = Storage(tmp_path_factory.mktemp("storage"))
    yield made
    made.close()


def building(place: Place) -> None:
    place.uuid = place.cell.boot(HOST)
    with place.cell.db.connect() as tx:
        place.request_id = actions.list_of(tx, place.uuid)[0].request_id


def stopping(place: Place) -> None:
    cases.up(place)
    place.act(STOP)


def while_off(case: Case) -> Case:
    """The action on a server that is stopped: guests here run no system that would release devices."""

    def begin(place: Place) -> None:
        stopping(place)
        place.run()
        case.begin(place)

    return replace(case, begin=begin)


def starting(place: Place) -> None:
    stopping(place)
    place.run()
    place.act(START)


def suspending(place: Place) -> None:
    cases.up(place)
    place.act(SUSPEND)


def resuming(place: Place) -> None:
    suspending(place)
    place.run()
    place.act(RESUME)


def rebuilding(place: Place) -> None:
    cases.up(place)
    place.wanted["to"] = place.cell.images.add(b"\xeb\xfe".ljust(512, b"\0"))
    place.act(REBUILD)
    now = place.cell.clock.now()
    place.cell.db.run(lambda tx: instances.change(tx, place.uuid, now=now, image_ref=place.wanted["to"]))


def soft_deleting(place: Place) -> None:
    cases.up(place)
    place.act(SOFT_DELETE)


def restoring(place: Place) -> None:
    soft_deleting(place)
    place.run()
    place.act(RESTORE)


def directory(place: Place) -> Path:
    return place.cell.directory / HOST / place.uuid


def _is(state: VmState) -> Callable[[Place], bool]:
    return lambda place: place.cell.instance(place.uuid).state == State(state)


def _rebuilt(place: Place) -> bool:
    base, wanted = directory(place) / "base", place.cell.images.contents[place.wanted["to"]]
    return base.exists() and base.read_bytes() == wanted and _is(VmState.ACTIVE)(place)


WITH_VOLUMES = (
    "attach_volume", "detach_volume", "extend_volume", "boot_from_volume", "createImage_of_volumes",
    "rebuild_of_volumes", "swap_volume",
)  # fmt: skip
CASES = (
    Case("create", building, _is(VmState.ACTIVE)),
    Case("stop", stopping, _is(VmState.STOPPED)),
    Case("start", starting, _is(VmState.ACTIVE)),
    Case("suspend", suspending, _is(VmState.SUSPENDED)),
    Case("resume", resuming, _is(VmState.ACTIVE)),
    Case("rebuild", rebuilding, _rebuilt),
    Case("soft-delete", soft_deleting, _is(VmState.SOFT_DELETED)),
    Case("restore", restoring, _is(VmState.ACTIVE)),
    *(case for case in cases.CASES if case.name in (
        "rescue", "unrescue", "createImage", "createBackup", "shelve", "unshelve", *WITH_VOLUMES,
    )),
    *(while_off(case) for case in cases.CASES if case.name in ("attach_interface", "detach_interface")),
)  # fmt: skip


def check_books(place: Place) -> None:
    """Cell, host, network and image service say the same of the server."""
    cell, uuid = place.cell, place.uuid
    instance = cell.instance(uuid)
    assert cell.unfinished(uuid) == []
    assert not [image.id for image in cell.images.records.values() if image.status == "queued"]
    if instance.deleted_at is not None:
        assert (cell.guests_of(uuid), cell.networks.of(uuid), place.images()) == ([], [], set())
        assert place.storage.attachments(uuid) == []
        assert (directory(place).exists(), uuid in cell.placement.allocations) == (False, False)
        return
    assert instance.task_state is None
    if not cell.guests_of(uuid):
        assert instance.vm_state is VmState.ERROR
        assert not directory(place).exists()
        return
    driver = cell.hosts[HOST].driver
    assert driver.power_state(uuid) is instance.power_state
    rescued = json.loads((directory(place) / "guest.json").read_text()).get("rescued") is not None
    assert rescued is (instance.vm_state is VmState.RESCUED)
    assert (directory(place) / "disk.rescue").exists() is rescued
    assert [path.name for path in (cell.directory / HOST).rglob("*.part")] == []
    if driver.power_state(uuid) is PowerState.NOSTATE:  # a rebuild that ended between the domain and its files
        assert instance.vm_state is VmState.ERROR
        return
    with driver._guest(uuid) as found:
        macs = re.findall(r"<mac address='([^']*)'", found.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    assert sorted(macs) == sorted(vif.mac for vif in instance.network_info)
    assert {vif.port_id for vif in instance.network_info} == {port.vif.port_id for port in cell.networks.of(uuid)}
    check_volumes(place)


def check_volumes(place: Place) -> None:
    """Cell, guest and block storage service say the same of the server's volumes."""
    attached, has = place.storage.attachments(place.uuid), volumes(place.cell.instance(place.uuid).block_devices)
    assert not any(device.detaching for device in has)
    assert {one["id"]: one["status"] for one in attached} == {one.attachment_id: "attached" for one in has}
    assert {one["volume_id"] for one in attached} == {one.volume_id for one in has}
    if place.cell.instance(place.uuid).power_state is PowerState.RUNNING:
        assert place.on_guest() == {one.volume_id: one.volume_size for one in has}


def at_each_call(
    tmp_path: Path, storage: Storage, host: Host, case: Case, stop: Stop, check: Callable[[Place], None]
) -> None:
    wrong: list[str] = []

    def stopped(number: int, *, after: bool) -> bool:
        """Whether the action has such a call."""
        with begun(tmp_path / f"{number}{after}", storage, host, case) as place:
            switch, fault = fault_after(place, stop, number, check, after=after)
        wrong.extend([fault] if fault else [])
        return switch.count >= number

    if STRIDE == 0:
        stopped(random.randint(1, USUAL_CALLS), after=random.random() < 0.5)
    for after in (False, True) if STRIDE else ():
        number = 1 + random.randrange(STRIDE)
        while stopped(number, after=after):
            number += STRIDE
    assert not wrong, "\n".join(wrong)


@contextlib.contextmanager
def begun(directory: Path, storage: Storage, host: Host, case: Case) -> Iterator[Place]:
    """The action is open, and no agent is there."""
    directory.mkdir()
    served = ServedVolumes(storage.volumes, directory)
    if case.name in WITH_VOLUMES:
        place = Place(CellOnScsi(directory, None, cast(Volumes, served), new_driver=host.driver), storage)
    else:
        place = Place(OneCell(directory, new_driver=host.driver), storage)
    del place.cell.images.records[place.cell.image_id]
    place.cell.image_id = place.cell.images.add(IMAGE)
    place.cell.new_conductor(shelved_offload_seconds=-1)
    place.cell.host(HOST)
    case.begin(place)
    place.cell.hosts[HOST].agent.stop(0)
    try:
        yield place
    finally:
        host.clear()
        served.close()
        place.cell.db.dispose()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("stop", [agent_dies, call_fails], ids=lambda stop: stop.__name__)
def test_a_stopped_action_is_done_or_undone(
    tmp_path: Path, storage: Storage, host: Host, case: Case, stop: Stop
) -> None:
    def check(place: Place) -> None:
        check_books(place)
        check_told(place, case)

    at_each_call(tmp_path, storage, host, case, stop, check)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_action_meets_the_end_of_libvirtd(
    tmp_path: Path, storage: Storage, host: Host, libvirtd: PrivateLibvirtd, case: Case
) -> None:
    def libvirtd_dies(place: Place, number: int, after: bool) -> KillSwitch:
        switch = Meanwhile(number, libvirtd.kill_libvirtd, after=after)
        place.cell.host(HOST, switch=switch).claim()
        wait_until(libvirtd.answers, "libvirtd does not come back")
        place.cell.host(HOST)
        return switch

    def check(place: Place) -> None:
        check_books(place)
        check_told(place, case)

    at_each_call(tmp_path, storage, host, case, libvirtd_dies, check)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_delete_overtakes_any_action(tmp_path: Path, storage: Storage, host: Host, case: Case) -> None:
    def check(place: Place) -> None:
        assert place.cell.instance(place.uuid).deleted_at is not None
        check_books(place)

    at_each_call(tmp_path, storage, host, case, server_is_deleted, check)
