"""Quota sets, classes and limits."""

from __future__ import annotations

from pathlib import Path

from api_cell.config import ApiSection, ApiSettings, Quota, QuotaDriver
from mapping_db import quotas
from tests.edge.compute_api import ComputeApi


def test_the_class_default_holds_where_a_project_says_nothing(api: ComputeApi) -> None:
    api.client.put("/os-quota-class-sets/default", {"quota_class_set": {"cores": 7}})
    api.client.put("/os-quota-sets/p1", {"quota_set": {"ram": 9, "instances": "-1"}})

    one = api.client.get("/os-quota-sets/p1").json["quota_set"]
    assert (one["cores"], one["ram"], one["instances"], one["floating_ips"]) == (7, 9, -1, -1)
    assert api.client.get("/os-quota-sets/p1/defaults").json["quota_set"]["ram"] == 51200
    api.client.delete("/os-quota-sets/p1")
    assert api.client.get("/os-quota-sets/p1").json["quota_set"]["ram"] == 51200


def test_a_limit_below_what_is_used_needs_force(api: ComputeApi) -> None:
    with api.db.begin() as tx:
        quotas.reserve(tx, "p1", "u", {"cores": 5}, {"cores": 20})

    assert api.client.put("/os-quota-sets/p1", {"quota_set": {"cores": 4}}).fault[0] == "badRequest"
    assert api.client.put("/os-quota-sets/p1", {"quota_set": {"cores": -1}}).status == 200
    assert api.client.put("/os-quota-sets/p1", {"quota_set": {"cores": 4, "force": "yes"}}).status == 200
    detail = api.client.get("/os-quota-sets/p1/detail").json["quota_set"]["cores"]
    assert detail == {"limit": 4, "in_use": 5, "reserved": 0}


def test_limits_of_the_network_are_kept_and_shown_where_a_version_has_them(api: ComputeApi) -> None:
    wanted = {"fixed_ips": 31, "floating_ips": 32, "security_groups": 33, "security_group_rules": "34"}
    shown = {name: int(value) for name, value in wanted.items()}
    sets, classes = "/os-quota-sets/p1", "/os-quota-class-sets/default"

    def of(path: str, key: str, version: str) -> dict[str, int]:
        found = api.client.get(path, version=version).json[key]
        return {name: found[name] for name in wanted if name in found}

    answer = api.client.put(sets, {"quota_set": wanted}, version="2.35")
    assert {name: answer.json["quota_set"][name] for name in wanted} == shown
    assert of(sets, "quota_set", "2.1") == of(sets, "quota_set", "2.35") == shown
    assert of(sets, "quota_set", "2.36") == {}
    assert set(of(sets + "/defaults", "quota_set", "2.35").values()) == {-1}
    detail = api.client.get(sets + "/detail", version="2.35").json["quota_set"]["fixed_ips"]
    assert detail == {"limit": 31, "in_use": 0, "reserved": 0}
    absolute = api.client.get("/limits?tenant_id=p1", version="2.35").json["limits"]["absolute"]
    assert (absolute["maxTotalFloatingIps"], absolute["maxSecurityGroups"], absolute["maxSecurityGroupRules"]) == (
        32, 33, 34,
    )  # fmt: skip
    api.client.put(sets + "?user_id=u", {"quota_set": {"fixed_ips": 5}}, version="2.35")
    assert of(sets + "?user_id=u", "quota_set", "2.35") == {**shown, "fixed_ips": 5}

    answer = api.client.put(classes, {"quota_class_set": {"floating_ips": 8}}, version="2.49")
    assert answer.json["quota_class_set"]["floating_ips"] == 8
    assert of(classes, "quota_class_set", "2.49")["floating_ips"] == 8
    assert of(classes, "quota_class_set", "2.50") == {}
    assert of("/os-quota-sets/p2", "quota_set", "2.35")["floating_ips"] == 8
    assert api.client.delete(sets).status == 202
    assert of(sets, "quota_set", "2.35") == {**dict.fromkeys(wanted, -1), "floating_ips": 8}


def test_a_user_gets_no_more_than_the_project(api: ComputeApi) -> None:
    assert api.client.put("/os-quota-sets/p1?user_id=u", {"quota_set": {"cores": 21}}).status == 400
    assert api.client.put("/os-quota-sets/p1?user_id=u", {"quota_set": {"cores": 3}}).json["quota_set"]["cores"] == 3
    assert api.client.get("/os-quota-sets/p1?user_id=u").json["quota_set"]["cores"] == 3
    assert api.client.get("/os-quota-sets/p1").json["quota_set"]["cores"] == 20


def test_without_limits_setting_them_changes_nothing(tmp_path: Path) -> None:
    quota = Quota(driver=QuotaDriver.NONE.value)
    api = ComputeApi(tmp_path, ApiSettings(api=ApiSection(auth_strategy="noauth2"), quota=quota))
    try:
        for path, key in (("/os-quota-sets/p1", "quota_set"), ("/os-quota-class-sets/default", "quota_class_set")):
            answer = api.client.put(path, {key: {"cores": 5, "fixed_ips": 3}})
            assert answer.status == 200, answer.raw
            assert set(answer.json[key].values()) == {-1}
            shown = api.client.get(path).json[key]
            assert {shown.pop("id"), *shown.values()} == {path.rsplit("/", 1)[1], -1}
        assert api.client.put("/os-quota-sets/p1?user_id=u", {"quota_set": {"cores": 5}}).status == 200
        assert api.client.delete("/os-quota-sets/p1").status == 202
        detail = api.client.get("/os-quota-sets/p1/detail").json["quota_set"]
        assert detail["cores"] == {"limit": -1, "in_use": 0, "reserved": 0}
    finally:
        api.close()


def test_names_end_with_their_versions(api: ComputeApi) -> None:
    def status(name: str, version: str) -> int:
        return api.client.put("/os-quota-sets/p1", {"quota_set": {name: 5}}, version=version).status

    assert (status("fixed_ips", "2.35"), status("fixed_ips", "2.36")) == (200, 400)
    assert (status("injected_files", "2.56"), status("injected_files", "2.57")) == (200, 400)
    assert status("cores", "2.96") == 200
    assert api.client.put("/os-quota-sets/p1", {"quota_set": {"cores": -2}}).status == 400


def test_users_see_their_own_project_only(api: ComputeApi) -> None:
    ann = api.as_user("ann", "p1")

    assert ann.get("/os-quota-sets/p1").status == 200
    assert ann.get("/os-quota-sets/p2").fault[0] == "forbidden"
    assert ann.put("/os-quota-sets/p1", {"quota_set": {"cores": 1}}).status == 403
    assert ann.get("/limits").status == 200
    assert ann.get("/limits?tenant_id=p2").status == 403
    assert api.client.get("/limits?tenant_id=p1").status == 200


def test_limits_tell_what_is_used(api: ComputeApi) -> None:
    with api.db.begin() as tx:
        quotas.reserve(tx, "p1", "u", {"instances": 2, "cores": 3, "ram": 4}, {})
    absolute = api.as_user("u", "p1").get("/limits", version="2.57").json["limits"]["absolute"]

    assert (absolute["totalInstancesUsed"], absolute["totalCoresUsed"], absolute["totalRAMUsed"]) == (2, 3, 4)
    assert absolute["maxTotalInstances"] == 10
