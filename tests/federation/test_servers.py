"""Servers from the wire to the hypervisor and back."""

from __future__ import annotations

from tests.federation.cloud import Federation


def test_a_server_comes_up_and_goes_without_a_trace(cloud: Federation) -> None:
    uuid = cloud.boot()

    shown = cloud.show(uuid)
    assert shown["status"] == "ACTIVE", shown.get("fault")
    assert shown["OS-EXT-SRV-ATTR:host"] in cloud.guests()
    assert uuid in cloud.guests()[shown["OS-EXT-SRV-ATTR:host"]]
    assert cloud.allocations()[uuid] == {"VCPU": 1, "MEMORY_MB": 64, "DISK_GB": 1}

    assert cloud.admin.delete(f"/servers/{uuid}").status == 204
    cloud.until(lambda: cloud.gone(uuid))
    assert all(uuid not in guests for guests in cloud.guests().values())
    cloud.until(lambda: uuid not in cloud.allocations())


def test_every_action_leads_where_it_should(cloud: Federation) -> None:
    uuid = cloud.boot()
    for action, content, status in (
        ("os-stop", None, "SHUTOFF"),
        ("os-start", None, "ACTIVE"),
        ("reboot", {"type": "SOFT"}, "ACTIVE"),
        ("reboot", {"type": "HARD"}, "ACTIVE"),
        ("pause", None, "PAUSED"),
        ("unpause", None, "ACTIVE"),
        ("suspend", None, "SUSPENDED"),
        ("resume", None, "ACTIVE"),
    ):
        answer = cloud.act(uuid, action, content)
        assert answer.status == 202, (action, answer.raw)
        assert cloud.settled(uuid)["status"] == status, action
    names = [each["action"] for each in cloud.admin.get(f"/servers/{uuid}/os-instance-actions").json["instanceActions"]]
    assert names == ["resume", "suspend", "unpause", "pause", "reboot", "reboot", "start", "stop", "create"]


def test_a_server_that_fits_nowhere_says_why_and_can_be_deleted(cloud: Federation) -> None:
    cloud.admin.post("/flavors", {"flavor": {"name": "huge", "id": "huge", "vcpus": 1, "ram": 10**8, "disk": 1}})
    user = cloud.user("ann", "annas")
    uuid = cloud.boot(user, flavorRef="huge")

    shown = cloud.show(uuid)
    assert shown["status"] == "ERROR"
    assert shown["fault"]["message"] == "No valid host was found."
    assert "lacks 100000000 MEMORY_MB" in shown["fault"]["details"]
    for answer in (user.get(f"/servers/{uuid}"), user.get(f"/servers/{uuid}/os-instance-actions", version="2.84")):
        assert "MEMORY_MB" not in answer.raw.decode()
    seen = user.get(f"/servers/{uuid}").json["server"]["fault"]
    assert {**seen, "created": ""} == {"code": 500, "created": "", "message": "No valid host was found."}
    assert uuid in [each["id"] for each in user.get("/servers").json["servers"]]
    assert uuid not in cloud.allocations()

    assert cloud.admin.delete(f"/servers/{uuid}").status == 204
    cloud.until(lambda: cloud.gone(uuid))


def test_a_resize_that_fits_nowhere_says_why_to_those_who_see_hosts(cloud: Federation) -> None:
    wide = {"name": "wide", "id": "wide", "vcpus": 10**6, "ram": 64, "disk": 1}
    cloud.admin.post("/flavors", {"flavor": wide})
    user = cloud.user("bea", "beas")
    uuid = cloud.boot(user)
    user.post(f"/servers/{uuid}/action", {"os-stop": None})
    cloud.settled(uuid)
    assert user.post(f"/servers/{uuid}/action", {"resize": {"flavorRef": "wide"}}).status == 202

    assert cloud.settled(uuid)["status"] == "SHUTOFF"
    assert user.post(f"/servers/{uuid}/action", {"os-resetState": {"state": "error"}}).status == 403
    assert cloud.admin.post(f"/servers/{uuid}/action", {"os-resetState": {"state": "error"}}).status == 202
    shown = cloud.show(uuid)["fault"]
    assert shown["message"] == "No valid host was found."
    assert "lacks 1000000 VCPU" in shown["details"]
    seen = user.get(f"/servers/{uuid}").json["server"]["fault"]
    assert {**seen, "created": ""} == {"code": 500, "created": "", "message": "No valid host was found."}


def test_a_burst_spreads_and_never_overcommits(cloud: Federation) -> None:
    answer = cloud.post_server(min_count=12, max_count=12, return_reservation_id=True)
    reservation = answer.json["reservation_id"]
    mine = f"/servers/detail?reservation_id={reservation}"

    def active() -> bool:
        servers = cloud.admin.get(mine, version="2.96").json["servers"]
        return len(servers) == 12 and {each["status"] for each in servers} == {"ACTIVE"}

    cloud.until(active)
    servers = cloud.admin.get(mine, version="2.96").json["servers"]
    assert sorted(each["OS-EXT-SRV-ATTR:launch_index"] for each in servers) == list(range(12))
    assert sorted(each["name"] for each in servers) == sorted(f"s-{number}" for number in range(1, 13))
    assert len({each["OS-EXT-SRV-ATTR:host"] for each in servers}) > 1
    for each in servers:
        assert cloud.admin.delete(f"/servers/{each['id']}").status == 204
    cloud.until(lambda: all(cloud.gone(each["id"]) for each in servers))
    assert not {each["id"] for each in servers} & set(cloud.allocations())


def test_a_delete_right_after_the_create_wins_or_follows(cloud: Federation) -> None:
    uuids = []
    for _ in range(8):
        uuid = cloud.post_server().json["server"]["id"]
        assert cloud.admin.delete(f"/servers/{uuid}").status == 204
        uuids.append(uuid)
    cloud.until(lambda: all(cloud.gone(uuid) for uuid in uuids))
    cloud.until(lambda: not set(uuids) & set(cloud.allocations()))
    cloud.until(lambda: not any(set(uuids) & set(guests) for guests in cloud.guests().values()))


def test_actions_are_refused_in_the_wrong_state_and_change_nothing(cloud: Federation) -> None:
    uuid = cloud.boot()
    answer = cloud.act(uuid, "os-start")
    assert answer.status == 409
    assert answer.fault == (
        "conflictingRequest",
        f"Cannot 'start' instance {uuid} while it is in vm_state active",
    )
    assert cloud.show(uuid)["OS-EXT-STS:task_state"] is None


def test_another_project_sees_and_does_nothing(cloud: Federation) -> None:
    uuid = cloud.boot()
    stranger = cloud.user("somebody", "elsewhere")
    assert stranger.get(f"/servers/{uuid}").status == 404
    assert stranger.delete(f"/servers/{uuid}").status == 404
    assert cloud.act(uuid, "os-stop", by=stranger).status == 404
    assert stranger.get("/servers").json["servers"] == []
    assert stranger.get("/servers?all_tenants=1").status == 403


def test_a_locked_server_obeys_only_administrators(cloud: Federation) -> None:
    owner = cloud.user("owner", "project-of-owner")
    uuid = cloud.boot(owner)
    assert cloud.act(uuid, "lock", {"locked_reason": "hands off"}, by=owner).status == 202
    shown = cloud.show(uuid, owner)
    assert (shown["locked"], shown["locked_reason"]) == (True, "hands off")
    assert cloud.act(uuid, "os-stop", by=owner).status == 409
    assert owner.delete(f"/servers/{uuid}").status == 409
    assert cloud.act(uuid, "unlock", by=owner).status == 202
    assert cloud.act(uuid, "os-stop", by=owner).status == 202
    assert cloud.settled(uuid, owner)["status"] == "SHUTOFF"


def test_quota_holds_and_comes_back(cloud: Federation) -> None:
    cloud.admin.put("/os-quota-sets/small-project", {"quota_set": {"instances": 2}})
    user = cloud.user("user", "small-project")
    first, second = cloud.boot(user), cloud.boot(user)
    refused = cloud.post_server(user)
    assert refused.status == 403
    assert refused.fault[0] == "forbidden"
    assert user.delete(f"/servers/{first}").status == 204
    assert cloud.post_server(user).status == 202
    assert second in [each["id"] for each in user.get("/servers").json["servers"]]


def test_metadata_tags_and_names_change(cloud: Federation) -> None:
    uuid = cloud.boot(metadata={"a": "1"}, tags=["blue"])
    assert cloud.admin.post(f"/servers/{uuid}/metadata", {"metadata": {"b": "2"}}).json == {
        "metadata": {"a": "1", "b": "2"}
    }
    assert cloud.admin.delete(f"/servers/{uuid}/metadata/a").status == 204
    assert cloud.admin.get(f"/servers/{uuid}/metadata/a").status == 404
    assert cloud.admin.put(f"/servers/{uuid}/tags/red", None, version="2.96").status == 201
    assert cloud.admin.put(f"/servers/{uuid}/tags/red", None, version="2.96").status == 204
    assert cloud.admin.put(f"/servers/{uuid}", {"server": {"name": "renamed"}}).json["server"]["name"] == "renamed"
    shown = cloud.show(uuid)
    assert (shown["metadata"], sorted(shown["tags"]), shown["name"]) == ({"b": "2"}, ["blue", "red"], "renamed")
    listed = cloud.admin.get("/servers?tags=blue,red", version="2.96").json["servers"]
    assert [each["id"] for each in listed] == [uuid]
    assert cloud.admin.get("/servers?tags=blue,green", version="2.96").json["servers"] == []


def test_the_console_log_is_the_guests(cloud: Federation) -> None:
    uuid = cloud.boot(name="talker")
    output = cloud.act(uuid, "os-getConsoleOutput", {"length": 3}).json["output"]
    assert "login:" in output
    assert len(output.splitlines()) <= 3


def test_members_of_an_anti_affinity_group_run_apart(cloud: Federation) -> None:
    body = {"server_group": {"name": "apart", "policy": "anti-affinity"}}
    group = cloud.admin.post("/os-server-groups", body, version="2.96").json["server_group"]["id"]
    uuids = [cloud.boot(hints={"group": group}) for _ in range(4)]
    shown = [cloud.show(uuid) for uuid in uuids]
    assert len({each["OS-EXT-SRV-ATTR:host"] for each in shown}) == 4
    assert {tuple(each["server_groups"]) for each in shown} == {(group,)}
    fifth = cloud.show(cloud.boot(hints={"group": group}))
    assert fifth["status"] == "ERROR"
    for uuid in [*uuids, fifth["id"]]:
        cloud.admin.delete(f"/servers/{uuid}")
