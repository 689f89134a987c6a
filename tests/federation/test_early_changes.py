"""Changes of a server right after it was accepted: its cell gets it so, whatever a super-conductor has read before."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from api_cell.superconductor import placing
from cell_service.errors import DatabaseUnavailable
from tests.federation.cloud import Federation


@pytest.fixture
def cloud(small: Federation) -> Federation:
    return small


def change(cloud: Federation, uuid: str) -> None:
    """All that may be changed of a server without its cell."""
    path, admin = f"/servers/{uuid}", cloud.user("admin", "admin-project")  # a connection of this thread
    body: Any = {"server": {"name": "late", "description": "said later", "accessIPv4": "192.0.2.7"}}
    shown = admin.put(path, body, version="2.90")
    assert (shown.status, shown.json["server"]["name"]) == (200, "late")
    assert admin.post(f"{path}/metadata", {"metadata": {"a": "1", "b": "2"}}).json == {"metadata": {"a": "1", "b": "2"}}
    assert admin.put(f"{path}/metadata/a", {"meta": {"a": "3"}}).status == 200
    assert admin.delete(f"{path}/metadata/b").status == 204
    assert admin.delete(f"{path}/metadata/b").status == 404
    assert admin.put(f"{path}/tags", {"tags": ["x", "y"]}, version="2.26").json == {"tags": ["x", "y"]}
    assert admin.put(f"{path}/tags/z", None, version="2.26").status == 201
    assert admin.delete(f"{path}/tags/y", version="2.26").status == 204


def demand_changed(cloud: Federation, uuid: str, status: str = "ACTIVE") -> None:
    cloud.until(lambda: cloud.show(uuid)["status"] == status)
    shown = cloud.show(uuid)
    assert (shown["name"], shown["description"], shown["accessIPv4"]) == ("late", "said later", "192.0.2.7")
    assert (shown["metadata"], shown["tags"]) == ({"a": "3"}, ["x", "z"])
    named = cloud.admin.get("/servers?name=late").json["servers"]
    assert uuid in {each["id"] for each in named}


def after(monkeypatch: pytest.MonkeyPatch, function: str, act: Callable[[str], None]) -> None:
    """Do that when a super-conductor has first done this function of `placing` for a request."""
    original, done = getattr(placing, function), threading.Event()

    def patched(*arguments: Any) -> Any:
        answer = original(*arguments)
        requests = next(each for each in arguments if isinstance(each, (list, tuple)))
        if not done.is_set():
            done.set()
            act(requests[0].instance_uuid)
        return answer

    monkeypatch.setattr(placing, function, patched)


@pytest.mark.parametrize("step", ["_selected", "_followed", "_store"])
def test_a_server_is_changed_before_it_is_in_a_cell(
    cloud: Federation, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Before the choice is known, before the cell has it, and when the cell has it and the mapping does not say so."""
    after(monkeypatch, step, lambda uuid: change(cloud, uuid))
    uuid = cloud.post_server().json["server"]["id"]
    demand_changed(cloud, uuid)


def test_a_server_without_a_host_is_changed(cloud: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    after(monkeypatch, "_store", lambda uuid: change(cloud, uuid))
    flavor = {"flavor": {"name": "huge", "vcpus": 999, "ram": 64, "disk": 1}}
    huge = cloud.admin.post("/flavors", flavor).json["flavor"]["id"]
    uuid = cloud.post_server(flavorRef=huge).json["server"]["id"]
    demand_changed(cloud, uuid, "ERROR")


def test_the_next_super_conductor_carries_the_change_to_the_cell(
    cloud: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that had stored the server in the cell is killed, and then the server is changed."""

    def die(uuid: str) -> None:
        change(cloud, uuid)
        raise DatabaseUnavailable(reason="killed here")

    after(monkeypatch, "_store", die)
    uuid = cloud.post_server().json["server"]["id"]
    demand_changed(cloud, uuid)
