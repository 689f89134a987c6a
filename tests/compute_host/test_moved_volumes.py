"""Volumes that are elsewhere when a guest starts: the block storage service says where."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from cell_service.context import Context
from cell_service.db import instances
from cell_service.errors import NotFound, PeerUnavailable, PolycellError
from cell_service.model.lifecycle import PowerState
from cell_service.operations.power import REBOOT_HARD, START, STOP
from cell_service.peers.volumes import Connection, Volumes
from tests.suites import stopped_cases as cases
from tests.suites.one_cell import OneCell
from tests.suites.stopping import HOST, Place, Storage

MOVED = {"driver_volume_type": "iscsi", "target_portal": "10.0.0.2:3260"}


class Elsewhere:
    """A block storage service whose volumes move, or which does not say where they are."""

    def __init__(self, service: Volumes) -> None:
        self._service = service
        self.info: dict[str, Any] | None = None
        self.error: PolycellError | None = None
        self.requests = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._service, name)

    def connection(self, ctx: Context, attachment_id: str) -> Connection:
        self.requests += 1
        if self.error is not None:
            raise self.error
        known = self._service.connection(ctx, attachment_id)
        return known if self.info is None else replace(known, info=self.info)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    made = Storage(tmp_path_factory.mktemp("storage"))
    yield made
    made.close()


@pytest.fixture
def service(storage: Storage) -> Elsewhere:
    return Elsewhere(storage.volumes)


@pytest.fixture
def place(tmp_path: Path, storage: Storage, service: Elsewhere) -> Iterator[Place]:
    made = Place(OneCell(tmp_path, None, cast(Volumes, service)), storage)
    made.cell.new_conductor(shelved_offload_seconds=-1)
    made.cell.host(HOST)
    cases.attached(made)
    yield made
    made.cell.db.dispose()


def done(place: Place, operation: Any) -> None:
    place.act(operation)
    place.run()
    assert place.result() == "Success"


def test_a_guest_starts_with_its_volume_where_that_is_now(place: Place, service: Elsewhere) -> None:
    before = place.devices()
    done(place, STOP)
    service.info = MOVED
    done(place, START)
    (device,) = place.devices()
    assert device == replace(before[0], connection_info=MOVED)
    service.info = {**MOVED, "target_portal": "10.0.0.3:3260"}
    done(place, REBOOT_HARD)
    assert place.devices()[0].connection_info == service.info
    assert service.requests == 2


def test_a_volume_of_several_servers_stays_one(place: Place, service: Elsewhere) -> None:
    (device,) = place.devices()
    shared = replace(device, connection_info={**device.connection_info, "multiattach": True})
    now = place.cell.clock.now()
    place.cell.db.run(lambda tx: instances.change(tx, place.uuid, now=now, block_devices=(shared,)))
    service.info = MOVED
    done(place, REBOOT_HARD)
    assert place.devices()[0].connection_info == {**MOVED, "multiattach": True}


@pytest.mark.parametrize("error", [PeerUnavailable(service="volume", reason="it is down"), NotFound(reason="gone")])
def test_a_service_that_does_not_say_leaves_the_volume_where_it_was(
    place: Place, service: Elsewhere, error: PolycellError, caplog: pytest.LogCaptureFixture
) -> None:
    before = place.devices()
    service.error = error
    with caplog.at_level(logging.WARNING):
        done(place, REBOOT_HARD)
    assert "volume expected where it was" in caplog.text
    assert place.devices() == before
    assert place.cell.instance(place.uuid).power_state is PowerState.RUNNING
