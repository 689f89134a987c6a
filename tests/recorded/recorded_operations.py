"""An operation of each kind that its host has claimed, and one that it has not."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

from recorded_standstill import (
    FAR,
    HERE,
    PASSWORD,
    Case,
    closed,
    on_hosts,
)

from tests.federation.cloud import Federation
from tests.federation.test_volume_snapshots import set_state, snapshot, take
from tests.federation.test_volumes import attach as attach_volume
from tests.federation.test_volumes import status as volume_status
from tests.federation.test_volumes import volume


def acts(*actions: tuple[str, Any]) -> Callable[[Federation, str], dict[str, str]]:
    """The server has gone through these."""

    def prepare(cloud: Federation, uuid: str) -> dict[str, str]:
        for name, content in actions:
            assert cloud.act(uuid, name, content).status in (200, 202)
            cloud.settled(uuid)
        return {}

    return prepare


def with_volume(cloud: Federation, uuid: str) -> dict[str, str]:
    found = with_free_volume(cloud, uuid)
    assert attach_volume(cloud, uuid, found["volume"]).status == 200
    cloud.until(lambda: volume_status(cloud, found["volume"]) == "in-use")
    return found


def with_free_volume(cloud: Federation, uuid: str) -> dict[str, str]:
    return {"volume": volume(cloud)}


def with_interface(cloud: Federation, uuid: str) -> dict[str, str]:
    answer = cloud.admin.post(f"/servers/{uuid}/os-interface", {"interfaceAttachment": {}}, version="2.96")
    assert answer.status == 200, answer.raw
    return {"port": answer.json["interfaceAttachment"]["port_id"]}


def soft_deleted(cloud: Federation, uuid: str) -> dict[str, str]:
    assert cloud.admin.delete(f"/servers/{uuid}").status == 204
    cloud.until(lambda: cloud.show(uuid)["status"] == "SOFT_DELETED")
    return {}


def with_share(cloud: Federation, uuid: str) -> dict[str, str]:
    acts(("os-stop", None))(cloud, uuid)
    return {"share": cloud.shared(uuid)}


def with_free_share(cloud: Federation, uuid: str) -> dict[str, str]:
    acts(("os-stop", None))(cloud, uuid)
    return {"share": cloud.share()}


def action(name: str, content: Any = None) -> Callable[[Federation, str, dict[str, str]], None]:
    def act(cloud: Federation, uuid: str, made: dict[str, str]) -> None:
        answer = cloud.user("admin", "admin-project").post(f"/servers/{uuid}/action", {name: content}, version="2.96")
        assert answer.status in (200, 202, 204), answer.raw

    return act


def request(
    method: str, path: str, content: Callable[[dict[str, str]], Any] = lambda _: None, version: str = "2.97"
) -> Callable[[Federation, str, dict[str, str]], None]:
    def act(cloud: Federation, uuid: str, made: dict[str, str]) -> None:
        by = cloud.user("admin", "admin-project")
        where, body = path.format(uuid=uuid, **made), content(made)
        answer = (
            by.delete(where, version=version)
            if method == "delete"
            else getattr(by, method)(where, body, version=version)
        )
        assert answer.status in (200, 201, 202, 204), answer.raw

    return act


def swap(cloud: Federation, uuid: str, made: dict[str, str]) -> None:
    body = {"volumeAttachment": {"volumeId": volume(cloud)}}
    path = f"/servers/{uuid}/os-volume_attachments/{made['volume']}"
    assert cloud.user("admin", "admin-project").put(path, body, version="2.1").status == 202


def extend(cloud: Federation, uuid: str, made: dict[str, str]) -> None:
    event = {"events": [{"name": "volume-extended", "server_uuid": uuid, "tag": made["volume"]}]}
    assert cloud.user("admin", "admin-project").post("/os-server-external-events", event, version="2.51").status == 200


def snap(cloud: Federation, uuid: str, made: dict[str, str]) -> None:
    assert take(cloud, made["volume"], snapshot(cloud, made["volume"], "creating")).status in (200, 202)


def with_snapshot(cloud: Federation, uuid: str) -> dict[str, str]:
    made = with_volume(cloud, uuid)
    made["snapshot"] = snapshot(cloud, made["volume"], "creating")
    assert take(cloud, made["volume"], made["snapshot"]).status in (200, 202)
    cloud.until(lambda: not any(uuid in each for each in cloud.unfinished()))
    return made


def unsnap(cloud: Federation, uuid: str, made: dict[str, str]) -> None:
    set_state(cloud, made["snapshot"], "deleting")
    info = json.dumps({"volume_id": made["volume"]})
    answer = cloud.user("admin", "admin-project").delete(
        f"/os-assisted-volume-snapshots/{made['snapshot']}?delete_info={info.replace(' ', '')}", version="2.96"
    )
    assert answer.status == 204, answer.raw


SERVER, VOLUMES = "/servers/{uuid}", "/servers/{uuid}/os-volume_attachments"
NOTHING: Callable[[Federation, str], dict[str, str]] = acts()
OPERATIONS: dict[str, tuple[Any, Any, str | None]] = {
    "start": (acts(("os-stop", None)), action("os-start"), "ACTIVE"),
    "stop": (NOTHING, action("os-stop"), "SHUTOFF"),
    "reboot_soft": (NOTHING, action("reboot", {"type": "SOFT"}), "ACTIVE"),
    "reboot_hard": (NOTHING, action("reboot", {"type": "HARD"}), "ACTIVE"),
    "pause": (NOTHING, action("pause"), "PAUSED"),
    "unpause": (acts(("pause", None)), action("unpause"), "ACTIVE"),
    "suspend": (NOTHING, action("suspend"), "SUSPENDED"),
    "resume": (acts(("suspend", None)), action("resume"), "ACTIVE"),
    "rebuild": (NOTHING, action("rebuild", {"imageRef": "IMAGE", "adminPass": PASSWORD}), "ACTIVE"),
    "shelve": (NOTHING, action("shelve"), "SHELVED"),
    "shelveOffload": (acts(("shelve", None)), action("shelveOffload"), "SHELVED_OFFLOADED"),
    "unshelve": (acts(("shelve", None)), action("unshelve"), "ACTIVE"),
    "rescue": (NOTHING, action("rescue", {"adminPass": PASSWORD}), "RESCUE"),
    "unrescue": (acts(("rescue", {})), action("unrescue"), "ACTIVE"),
    "createImage": (NOTHING, action("createImage", {"name": "copy"}), "ACTIVE"),
    "createBackup": (NOTHING, action("createBackup", {"name": "b", "backup_type": "d", "rotation": 1}), "ACTIVE"),
    "soft-delete": (NOTHING, request("delete", SERVER), "SOFT_DELETED"),
    "restore": (soft_deleted, action("restore"), "ACTIVE"),
    "changePassword": (NOTHING, action("changePassword", {"adminPass": PASSWORD}), "ACTIVE"),
    "trigger_crash_dump": (NOTHING, action("trigger_crash_dump"), "ACTIVE"),
    "attach_interface": (NOTHING, request("post", SERVER + "/os-interface", lambda _: {"interfaceAttachment": {}}),
                         "ACTIVE"),
    "detach_interface": (with_interface, request("delete", SERVER + "/os-interface/{port}"), "ACTIVE"),
    "delete": (NOTHING, action("forceDelete"), None),
    "attach_volume": (with_free_volume,
                      request("post", VOLUMES, lambda made: {"volumeAttachment": {"volumeId": made["volume"]}}),
                      "ACTIVE"),
    "detach_volume": (with_volume, request("delete", VOLUMES + "/{volume}"), "ACTIVE"),
    "swap_volume": (with_volume, swap, "ACTIVE"),
    "extend_volume": (with_volume, extend, "ACTIVE"),
    "volume_snapshot_create": (with_volume, snap, "ACTIVE"),
    "volume_snapshot_delete": (with_snapshot, unsnap, "ACTIVE"),
    "attach_share": (with_free_share,
                     request("post", SERVER + "/shares", lambda made: {"share": {"share_id": made["share"]}}),
                     "SHUTOFF"),
    "detach_share": (with_share, request("delete", SERVER + "/shares/{share}"), "SHUTOFF"),
}  # fmt: skip


def make_operations(cloud: Federation, phase: str) -> list[Case]:
    """One of each kind that its host has claimed ("running"), or will find ("open": `closed` is set)."""
    cases, prepared = [], []
    for kind, (_, _, status) in OPERATIONS.items():
        answer = cloud.post_server(name=kind, availability_zone=f"nova:{FAR if phase == 'open' else HERE}",
                                   **({"networks": "auto"} if "interface" in kind else {}))  # fmt: skip
        assert answer.status == 202, answer.raw
        cases.append({"operation": kind, "phase": phase, "uuid": answer.json["server"]["id"],
                      "end": None if status is None else {"status": status}})  # fmt: skip
    for case in cases:
        cloud.settled(case["uuid"])
    for case in cases:
        prepared.append(OPERATIONS[case["operation"]][0](cloud, case["uuid"]))
    if phase == "open":
        closed.set()
    for case, made in zip(cases, prepared, strict=True):
        on_hosts.add((case["uuid"], case["operation"]))
        act = OPERATIONS[case["operation"]][1]
        threading.Thread(target=act, args=(cloud, case["uuid"], made), daemon=True).start()
        wanted = f"{case['operation']} {phase} {case['uuid']}"
        cloud.until(lambda wanted=wanted: any(each.startswith(wanted) for each in cloud.unfinished()))
    return cases
