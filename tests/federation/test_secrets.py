"""No table of any database holds a password in clear, while the action that takes or makes one is pending and after."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import func, select

from cell_service.db.schema import operations
from tests.federation.cloud import Federation
from tests.federation.passwords import found_in
from tests.suites.peers import WITH_AGENT

PASSWORD = "Gr8-Secret"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    made = Federation(tmp_path_factory.mktemp("cloud"))
    made.image_id = made.images.add(properties=WITH_AGENT)
    yield made
    made.close()


def sealed(cloud: Federation) -> int:
    """How many secrets wait in the cells."""
    count = 0
    for name in cloud.names[1:]:
        database = cloud.cell_database(name)
        with database.connect() as tx:
            count += tx.scalar(select(func.count(operations.c.sealed)))
        database.dispose()
    return count


def create(cloud: Federation, uuid: str) -> Any:
    return cloud.post_server(adminPass=PASSWORD, availability_zone="nova:cell1-host1")


def rebuild(cloud: Federation, uuid: str) -> Any:
    return cloud.act(uuid, "rebuild", {"imageRef": cloud.image_id, "adminPass": PASSWORD})


def rescue(cloud: Federation, uuid: str) -> Any:
    return cloud.act(uuid, "rescue", {"adminPass": PASSWORD})


def change_password(cloud: Federation, uuid: str) -> Any:
    return cloud.act(uuid, "changePassword", {"adminPass": PASSWORD})


@pytest.mark.parametrize("action", [create, rebuild, rescue, change_password], ids=lambda each: each.__name__)
def test_a_password_is_in_no_table(cloud: Federation, action: Callable[[Federation, str], Any]) -> None:
    uuid = cloud.boot(cell="cell1")
    cloud.fleets["cell1"].stop()
    try:
        answer = action(cloud, uuid)
        assert answer.status in (200, 202), answer.raw
        cloud.until(lambda: sealed(cloud) == 1)
        assert found_in(cloud, PASSWORD) == []
    finally:
        cloud.fleets["cell1"] = cloud.start_hosts("cell1", 2)
    uuid = answer.json["server"]["id"] if action is create else uuid
    assert cloud.settled(uuid)["status"] in ("ACTIVE", "RESCUE")
    assert found_in(cloud, PASSWORD) == []
    assert sealed(cloud) == 0


def test_a_password_that_waits_for_a_dead_host_is_sealed_and_goes_with_the_server(cloud: Federation) -> None:
    uuid = cloud.boot(cell="cell1")
    cloud.fleets["cell1"].stop()
    try:
        assert change_password(cloud, uuid).status == 202
        assert sealed(cloud) == 1
        assert found_in(cloud, PASSWORD) == []
        assert cloud.admin.delete(f"/servers/{uuid}").status == 204
        cloud.until(lambda: sealed(cloud) == 0)
        assert found_in(cloud, PASSWORD) == []
    finally:
        cloud.fleets["cell1"] = cloud.start_hosts("cell1", 2)
