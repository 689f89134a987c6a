"""A build request at each of its stages, and a build at each of its own."""

from __future__ import annotations

from recorded_standstill import (
    PASSWORD,
    Case,
    halted,
    on_hosts,
)

from tests.federation.cloud import Federation


def make_builds(cloud: Federation) -> list[Case]:
    """A build request at each of its stages, and a build at each of its own. `adminPass` stands in all of them."""
    stages = ("taken", "chosen", "chosen-unwanted", "chosen-nowhere", "stored", "stored-unwanted", "running", "moving")
    found: list[Case] = []
    for stage in stages:
        end: Case | None = {"status": "ERROR" if stage == "chosen-nowhere" else "ACTIVE"}
        name = f"build-{stage}"
        if stage == "stored" or stage == "stored-unwanted":
            on_hosts.add(name)  # type: ignore[arg-type]
        fields = {"flavorRef": "3"} if stage == "chosen-nowhere" else {}
        answer = cloud.post_server(name=name, adminPass=PASSWORD, **fields)
        assert answer.status == 202, answer.raw
        uuid = answer.json["server"]["id"]
        if stage == "running":
            cloud.until(lambda uuid=uuid: any(each.startswith(f"create running {uuid}") for each in cloud.unfinished()))
        else:
            cloud.until(lambda name=name: name in halted)
        if stage == "moving":
            end = {"status": "ACTIVE"}
        if stage.endswith("unwanted"):
            assert cloud.admin.delete(f"/servers/{uuid}").status == 204
            end = None
        found.append({"build": stage, "uuid": uuid, "end": end})
    return found


def make_open_builds(cloud: Federation) -> list[Case]:
    """A build that no host has claimed, and a request that no super-conductor has taken."""
    found = []
    opened = cloud.post_server(name="build-open", adminPass=PASSWORD).json["server"]["id"]
    cloud.until(lambda: any(each.startswith(f"create open {opened}") for each in cloud.unfinished()))
    found.append({"build": "open", "uuid": opened, "end": {"status": "ACTIVE"}})
    cloud.superconductor.stop(5)
    waiting = cloud.post_server(name="build-untaken", adminPass=PASSWORD).json["server"]["id"]
    found.append({"build": "untaken", "uuid": waiting, "end": {"status": "ACTIVE"}})
    return found
