"""Administrators' rules about cells, from the wire to where servers land; nothing is started anew in between."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from mapping_db import cell_mappings, instance_mappings, placement_notes, project_cells
from tests.federation.cloud import Federation


def cell_of(cloud: Federation, uuid: str) -> str:
    with cloud.db.connect() as tx:
        cell_id = instance_mappings.get(tx, uuid).cell_id
    return next(each.name for each in cloud.cells.all() if each.id == cell_id)


def change(cloud: Federation, name: str, **values: Any) -> None:
    """Change a cell as a command does; those who serve only follow."""
    [found] = [each for each in cloud.cells.all() if each.name == name]
    cloud.db.run(lambda tx: cell_mappings.change(tx, found.uuid, now=cloud.cloud.clock.now(), **values))
    cloud.until(lambda: all(getattr(cloud.cells.open(found.id).mapping, key) == value for key, value in values.items()))


def test_a_drained_cell_gets_nothing_and_its_servers_go_on(own_cloud: Federation) -> None:
    there = own_cloud.boot(cell="cell1")
    change(own_cloud, "cell1", weight=0)
    assert {cell_of(own_cloud, own_cloud.boot()) for _ in range(4)} == {"cell2"}
    assert own_cloud.act(there, "os-stop").status == 202
    assert own_cloud.settled(there)["status"] == "SHUTOFF"
    assert own_cloud.show(own_cloud.boot(cell="cell1"))["status"] == "ERROR"


def test_a_pinned_project_and_an_explained_server(own_cloud: Federation) -> None:
    cell2 = next(each.id for each in own_cloud.cells.all() if each.name == "cell2")
    user = own_cloud.user("ann", "pinned")
    version = own_cloud.cells.snapshot().version
    own_cloud.db.run(lambda tx: project_cells.pin(tx, "pinned", [cell2]))
    own_cloud.until(lambda: own_cloud.cells.snapshot().version > version)
    uuids = [own_cloud.boot(user) for _ in range(3)]
    assert {cell_of(own_cloud, uuid) for uuid in uuids} == {"cell2"}
    with own_cloud.db.connect() as tx:
        note = placement_notes.get(tx, uuids[0])
    assert note is not None
    assert note["chosen"]["host"] == own_cloud.show(uuids[0])["OS-EXT-SRV-ATTR:host"]
    assert "pinned to others" in note["cells"]["cell1"]


def test_hints_of_cells_are_for_administrators(cloud: Federation) -> None:
    answer = cloud.post_server(hints={"target_cell": "cell2"})
    assert answer.status == 202, answer.raw
    uuid = answer.json["server"]["id"]
    cloud.settled(uuid)
    assert cell_of(cloud, uuid) == "cell2"
    answer = cloud.post_server(hints={"different_cell": [uuid]})
    cloud.settled(answer.json["server"]["id"])
    assert cell_of(cloud, answer.json["server"]["id"]) == "cell1"

    assert cloud.post_server(hints={"target_cell": "nowhere"}).status == 400
    assert cloud.post_server(hints={"different_cell": [str(uuid4())]}).status == 400
    user = cloud.user("ann", "p-hints")
    for hints in ({"target_cell": "cell2"}, {"different_cell": ["cell1"]}):
        assert cloud.post_server(user, hints=hints).status == 403
