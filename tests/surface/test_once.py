"""Creates that are sent twice, and projects that send too much."""

from __future__ import annotations

import pytest

from api_cell.edge.rates import Rates
from cell_service.context import ManualClock
from cell_service.errors import TooManyRequests
from tests.surface.world import World


def test_a_create_sent_again_makes_nothing(world: World) -> None:
    user = world.cloud.user("ann", "once")
    body = {"server": {"name": "one", "flavorRef": "1", "imageRef": world.cloud.image_id, "networks": "none"}}
    first = user.post("/servers", body, version="2.96", headers={"Idempotency-Key": "a"})
    again = user.post("/servers", body, version="2.96", headers={"Idempotency-Key": "a"})
    assert (first.status, again.status) == (202, 202)
    assert again.json == first.json
    assert again.headers["Location"] == first.headers["Location"]
    assert len(user.get("/servers").json["servers"]) == 1
    other = user.post("/servers", {"server": {**body["server"], "name": "two"}}, version="2.96",
                      headers={"Idempotency-Key": "a"})  # fmt: skip
    assert other.status == 422
    stranger = world.cloud.user("ann", "another").post("/servers", body, version="2.96",
                                                       headers={"Idempotency-Key": "a"})  # fmt: skip
    assert stranger.json["server"]["id"] != first.json["server"]["id"]
    assert user.post("/servers", body, version="2.96", headers={"Idempotency-Key": "x" * 256}).status == 400


def test_a_refused_create_leaves_its_key_free(world: World) -> None:
    key = {"Idempotency-Key": "free"}
    flavor = {"flavor": {"name": "once", "id": "once", "ram": 1, "vcpus": 1, "disk": 0}}
    assert world.admin.post("/flavors", flavor).status == 200
    assert world.admin.post("/flavors", flavor, headers=key).status == 409
    assert world.admin.delete("/flavors/once").status == 202
    assert world.admin.post("/flavors", flavor, headers=key).status == 200
    assert world.admin.post("/flavors", flavor, headers=key).status == 200


def test_a_project_that_sends_too_much_waits_and_others_do_not() -> None:
    clock = ManualClock()
    rates = Rates(2.0, 3, clock)
    for _ in range(3):
        rates.take("p")
    with pytest.raises(TooManyRequests) as refused:
        rates.take("p")
    assert refused.value.fields["retry_after"] == 1
    rates.take("q")
    clock.advance(0.5)
    rates.take("p")
    with pytest.raises(TooManyRequests):
        rates.take("p")
