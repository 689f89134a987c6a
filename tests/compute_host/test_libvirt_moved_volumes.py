"""A volume whose server has moved while its guest was off, on libvirt: the guest starts with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

pytest.importorskip("libvirt", reason="needs libvirt-python")

from cell_service.operations.power import REBOOT_HARD, START, STOP
from cell_service.peers.volumes import Volumes
from tests.compute_host.test_libvirt_stopped_actions import IMAGE, CellOnScsi, Host
from tests.real.libvirtd import PrivateLibvirtd
from tests.real.nbd import ServedVolumes
from tests.suites import stopped_cases as cases
from tests.suites.stopping import HOST, Place, Storage

pytestmark = pytest.mark.real


@pytest.fixture
def place(tmp_path: Path, libvirtd: PrivateLibvirtd) -> Iterator[Place]:
    storage, host = Storage(tmp_path), Host(libvirtd)
    served = ServedVolumes(storage.volumes, tmp_path)
    made = Place(CellOnScsi(tmp_path, None, cast(Volumes, served), new_driver=host.driver), storage)
    del made.cell.images.records[made.cell.image_id]
    made.cell.image_id = made.cell.images.add(IMAGE)
    made.cell.new_conductor(shelved_offload_seconds=-1)
    made.cell.host(HOST)
    yield made
    host.clear()
    served.close()
    storage.close()
    made.cell.db.dispose()


def test_a_guest_starts_with_a_volume_whose_server_has_moved(place: Place) -> None:
    device = cases.attached(place)
    served = cast(ServedVolumes, place.cell.volumes)
    for operations in ((STOP, START), (REBOOT_HARD,)):
        served.move(device.volume_id or "")
        for operation in operations:
            place.act(operation)
            place.run()
            assert place.result() == "Success"
        assert place.on_guest() == {device.volume_id: 1}
        assert place.devices()[0].connection_info["socket"].count("moved-") == (1 if operations[-1] is START else 2)
