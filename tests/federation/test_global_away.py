"""The global database away: what a server's cell can do or hold is done or recorded there, and carried up later."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from api_cell.servers import global_records
from cell_service.context import Deadline
from cell_service.db import global_updates
from cell_service.model.move import MoveKind
from mapping_db import instance_mappings, moves, quotas, request_specs
from tests.federation.cloud import Federation
from tests.federation.test_moves import start
from tests.federation.test_rebuild import rebuild

PROJECT = "admin-project"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Two cells with two hosts each, for the tests of this file."""
    made = Federation(tmp_path_factory.mktemp("cloud"))
    made.pause()
    yield made
    with made.running():
        made.close()


@pytest.fixture
def cloud(own: Federation) -> Iterator[Federation]:
    with own.running():
        yield own


def waiting(cloud: Federation) -> list[str]:
    """The servers of which some cell has something to be carried up."""
    found = []
    for cell_id in cloud.ids.values():
        with cloud.cells.open(cell_id).db.connect(Deadline.after(10, cloud.clock)) as tx:
            found += global_updates.waiting(tx, 1000)
    return found


def mapping(cloud: Federation, uuid: str) -> instance_mappings.InstanceMapping:
    with cloud.db.connect() as tx:
        return instance_mappings.get(tx, uuid)


def spec(cloud: Federation, uuid: str) -> Any:
    with cloud.db.connect() as tx:
        return request_specs.get(tx, uuid)


def instances_used(cloud: Federation) -> int:
    with cloud.db.connect() as tx:
        return quotas.usage_of(tx, PROJECT)["instances"]


def test_names_and_pins_are_changed_and_carried_up(cloud: Federation) -> None:
    uuid = cloud.boot(name="before", availability_zone="nova")
    zone = spec(cloud, uuid).availability_zone
    with cloud.without_global():
        for name in ("between", "at-last"):
            answer = cloud.admin.put(f"/servers/{uuid}", {"server": {"name": name}}, version="2.104")
            assert (answer.status, answer.json["server"]["name"]) == (200, name)
        unpinned = {"server": {"pinned_availability_zone": None}}
        assert cloud.admin.put(f"/servers/{uuid}", unpinned, version="2.104").status == 200
        assert cloud.show(uuid)["name"] == "at-last"
    assert zone == "nova"
    cloud.until(lambda: mapping(cloud, uuid).display_name == "at-last")
    cloud.until(lambda: uuid not in waiting(cloud))
    assert spec(cloud, uuid).availability_zone is None
    assert [each["id"] for each in cloud.admin.get("/servers?name=at-last").json["servers"]] == [uuid]


def test_metadata_and_tags_are_changed_within_the_limits_that_are_known(cloud: Federation) -> None:
    uuid, path = cloud.boot(), "/servers/{}/metadata"
    quota = {"quota_set": {"metadata_items": 2}}
    assert cloud.admin.put("/os-quota-sets/few-project", quota).status == 200
    owner = cloud.user("few", "few-project")
    few = cloud.boot(owner)
    assert owner.post(path.format(few), {"metadata": {"a": "1"}}).status == 200
    with cloud.without_global():
        assert cloud.admin.post(path.format(uuid), {"metadata": {"a": "1"}}).json == {"metadata": {"a": "1"}}
        assert cloud.admin.put(f"/servers/{uuid}/tags", {"tags": ["x"]}, version="2.26").status == 200
        assert cloud.admin.delete(f"{path.format(uuid)}/a").status == 204
        too_many = {"metadata": {f"k{number}": "v" for number in range(129)}}
        assert cloud.admin.put(path.format(uuid), too_many).status == 403
        assert owner.post(path.format(few), {"metadata": {"b": "1"}}).status == 200
        assert owner.post(path.format(few), {"metadata": {"c": "1"}}).status == 403
        image = {"name": "i", "metadata": {"a": "1"}}
        assert cloud.act(uuid, "createImage", image).status == 202
        cloud.settled(uuid)
    assert cloud.show(uuid)["metadata"] == {}


def test_a_rebuild_is_done_and_later_moves_know_the_image(cloud: Federation) -> None:
    uuid, other = cloud.boot(), cloud.images.add(b"another image", properties={"hw_machine_type": "q35"})
    with cloud.without_global():
        assert rebuild(cloud, uuid, imageRef=other, name="anew").status == 202
        after = cloud.settled(uuid)
        assert (after["status"], after["image"]["id"], after["name"]) == ("ACTIVE", other, "anew")
        # the owner's keys are global
        assert rebuild(cloud, uuid, key_name="some").status == 503
        assert cloud.show(uuid)["status"] == "ACTIVE"
    cloud.until(lambda: uuid not in waiting(cloud))
    assert (spec(cloud, uuid).image_id, spec(cloud, uuid).image_properties) == (other, {"hw_machine_type": "q35"})
    assert mapping(cloud, uuid).display_name == "anew"


def test_a_server_is_deleted_and_counted_once(cloud: Federation) -> None:
    """Its guest ends at once, its claim and its row when placement can be told."""
    uuid, used = cloud.boot(), instances_used(cloud)
    with cloud.without_global():
        assert [cloud.admin.delete(f"/servers/{uuid}").status for _ in range(2)] == [204, 204]
        cloud.until(lambda: not any(uuid in guests for guests in cloud.guests().values()))
        assert cloud.act(uuid, "os-start").status == 409
    cloud.until(lambda: mapping(cloud, uuid).gone)
    assert instances_used(cloud) == used - 1
    cloud.until(lambda: uuid not in cloud.allocations())
    assert cloud.gone(uuid)
    assert uuid not in waiting(cloud)
    assert spec(cloud, uuid) is None


def test_a_server_without_a_host_is_deleted(cloud: Federation) -> None:
    huge = {"flavor": {"name": "huge", "ram": 10**7, "vcpus": 1, "disk": 1, "id": "huge"}}
    assert cloud.admin.post("/flavors", huge).status == 200
    answer = cloud.post_server(flavorRef="huge")
    uuid = answer.json["server"]["id"]
    cloud.until(lambda: cloud.show(uuid)["status"] == "ERROR")
    used = instances_used(cloud)
    with cloud.without_global():
        assert cloud.admin.delete(f"/servers/{uuid}").status == 204
        assert cloud.gone(uuid)
    cloud.until(lambda: mapping(cloud, uuid).gone)
    assert instances_used(cloud) == used - 1


def test_a_resized_server_is_deleted_with_what_its_old_host_keeps(cloud: Federation) -> None:
    uuid = cloud.boot()
    assert cloud.act(uuid, "migrate").status == 202
    cloud.until(lambda: cloud.show(uuid)["status"] == "VERIFY_RESIZE")
    with cloud.without_global():
        assert cloud.act(uuid, "confirmResize").status == 503  # moves are the global database's
        assert cloud.admin.delete(f"/servers/{uuid}").status == 204
    cloud.until(lambda: mapping(cloud, uuid).gone)
    cloud.until(lambda: not any(uuid in guests for guests in cloud.guests().values()))
    cloud.until(lambda: uuid not in cloud.allocations())


def test_a_state_that_was_reset_ends_the_move_that_waits(cloud: Federation) -> None:
    uuid = cloud.boot()
    assert cloud.act(uuid, "migrate").status == 202
    cloud.until(lambda: cloud.show(uuid)["status"] == "VERIFY_RESIZE")
    with cloud.without_global():
        assert cloud.act(uuid, "os-resetState", {"state": "active"}).status == 202
        assert cloud.show(uuid)["status"] == "ACTIVE"

    def ended() -> bool:
        with cloud.db.connect() as tx:
            return moves.active_of(tx, uuid) is None

    cloud.until(ended)
    assert cloud.show(uuid)["status"] == "ACTIVE"


def test_a_groups_server_is_shown(cloud: Federation) -> None:
    body = {"server_group": {"name": "g", "policy": "soft-anti-affinity"}}
    group = cloud.admin.post("/os-server-groups", body, version="2.64").json["server_group"]["id"]
    uuid = cloud.boot(hints={"group": group})
    with cloud.without_global():
        assert cloud.show(uuid)["server_groups"] == [group]


def test_what_only_the_global_database_knows_is_refused(cloud: Federation) -> None:
    uuid = cloud.boot()
    with cloud.without_global():
        for answer in (cloud.act(uuid, "resize", {"flavorRef": "1"}), cloud.act(uuid, "migrate"), cloud.post_server()):
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert cloud.show(uuid)["OS-EXT-STS:task_state"] is None


def test_whoever_dies_after_the_cells_transaction_a_super_conductor_carries_it_up(
    cloud: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid = cloud.boot(name="before")
    with monkeypatch.context() as dying:
        dying.setattr(global_records, "carry_up", lambda *_: False)
        assert cloud.admin.put(f"/servers/{uuid}", {"server": {"name": "after"}}).status == 200
    cloud.until(lambda: mapping(cloud, uuid).display_name == "after")


def test_a_move_to_another_cell_takes_along_what_is_not_carried_up(
    cloud: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid = cloud.boot(cell="cell1", name="before")
    with monkeypatch.context() as dying:
        dying.setattr(global_records, "carry_up", lambda *_: False)
        assert cloud.admin.put(f"/servers/{uuid}", {"server": {"name": "after"}}).status == 200
        start(cloud, uuid, MoveKind.LIVE, target_host="cell2-host1")
        cloud.until(lambda: mapping(cloud, uuid).cell_id == cloud.ids["cell2"])
        cloud.settled(uuid)
        assert mapping(cloud, uuid).display_name == "before"
    cloud.until(lambda: mapping(cloud, uuid).display_name == "after")
    cloud.until(lambda: uuid not in waiting(cloud))
