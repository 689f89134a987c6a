"""Small sections of the API: hosts, extensions, the audit log, bare metal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from tests.federation.cloud import Federation


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    made = Federation(tmp_path_factory.mktemp("cloud"), move_seconds=0, live_seconds=0)
    yield made
    made.close()


def test_hosts_are_listed_and_shown(quick: Federation) -> None:
    answer = quick.admin.get("/os-hosts", version="2.42")
    assert answer.status == 200, answer.raw
    assert {"host_name": "cell2-host1", "service": "compute", "zone": "nova"} in answer.json["hosts"]
    inner = quick.admin.get("/os-hosts?zone=internal", version="2.1").json["hosts"]
    assert {host["service"] for host in inner} - {"scheduler"} == {"conductor"}
    project = uuid4().hex
    uuid = quick.boot(quick.user("u", project), flavorRef="1")
    host = quick.show(uuid)["OS-EXT-SRV-ATTR:host"]
    lines = quick.admin.get(f"/os-hosts/{host}", version="2.42").json["host"]
    by_project = {line["resource"]["project"]: line["resource"] for line in lines}
    assert set(by_project) >= {"(total)", "(used_now)", "(used_max)", project}
    assert by_project[project] == {"host": host, "project": project, "cpu": 1, "memory_mb": 64, "disk_gb": 1}
    assert quick.admin.get("/os-hosts/nobody", version="2.42").status == 404
    assert quick.admin.get("/os-hosts", version="2.43").status == 404
    assert quick.user("v", uuid4().hex).get("/os-hosts", version="2.42").status == 403


def test_a_host_is_disabled_and_enabled(quick: Federation) -> None:
    for word, status in (("disable", "disabled"), ("Enable", "enabled")):
        answer = quick.admin.put("/os-hosts/cell1-host2", {"status": word}, version="2.42")
        assert (answer.status, answer.json) == (200, {"host": "cell1-host2", "status": status})
    assert quick.admin.put("/os-hosts/cell1-host2", {}, version="2.42").status == 400
    assert quick.admin.get("/os-hosts/nobody/startup", version="2.42").status == 404


def test_the_services_above_the_cells_are_listed(quick: Federation) -> None:
    def beaten(binary: str) -> list[dict[str, Any]]:
        listed = quick.admin.get(f"/os-services?binary={binary}&host=localhost", version="2.53").json["services"]
        return [each for each in listed if each["state"] == "up"]

    for binary in ("nova-scheduler", "nova-conductor"):
        quick.until(lambda binary=binary: beaten(binary))
        (one,) = beaten(binary)
        assert (one["zone"], one["status"], one["forced_down"]) == ("internal", "enabled", False)
        quick.until(lambda binary=binary, seen=one: beaten(binary)[0]["updated_at"] > seen["updated_at"])
        disabled = quick.admin.put(f"/os-services/{one['id']}", {"status": "disabled"}, version="2.53")
        assert (disabled.status, "Only nova-compute" in disabled.fault[1]) == (400, True)
        assert quick.admin.delete(f"/os-services/{one['id']}", version="2.53").status == 204
        quick.until(lambda binary=binary: beaten(binary))
    hosts = quick.admin.get("/os-hosts", version="2.42").json["hosts"]
    assert {"host_name": "localhost", "service": "scheduler", "zone": "internal"} in hosts
    zones = quick.admin.get("/os-availability-zone/detail").json["availabilityZoneInfo"]
    internal = next(zone for zone in zones if zone["zoneName"] == "internal")
    assert internal["hosts"]["localhost"]["nova-scheduler"]["available"]


def test_extensions_and_bare_metal(quick: Federation) -> None:
    user = quick.user("u", uuid4().hex)
    aliases = {one["alias"] for one in user.get("/extensions").json["extensions"]}
    assert {"os-agents", "os-volumes", "os-services", "OS-DCF"} <= aliases
    assert user.get("/extensions/os-agents").json["extension"]["name"] == "Agents"
    assert user.get("/extensions/nothing").status == 404
    nodes = quick.admin.get("/os-baremetal-nodes", version="2.35")
    assert (nodes.status, nodes.json) == (200, {"nodes": []})
    assert quick.admin.get(f"/os-baremetal-nodes/{uuid4()}", version="2.35").status == 404
    assert quick.admin.post("/os-baremetal-nodes", {}, version="2.35").status == 400
    assert quick.admin.get("/os-baremetal-nodes", version="2.36").status == 404


def test_no_host_has_run_an_audit(quick: Federation) -> None:
    log = quick.admin.get("/os-instance_usage_audit_log").json["instance_usage_audit_logs"]
    assert (log["num_hosts"], log["overall_status"]) == (4, "0 of 4 hosts done. 0 errors.")
    answer = quick.admin.get("/os-instance_usage_audit_log/2012-07-05 10:00:00".replace(" ", "%20"))
    log = answer.json["instance_usage_audit_log"]
    assert (log["period_beginning"], log["period_ending"]) == ("2012-06-01 00:00:00", "2012-07-01 00:00:00")
    assert quick.admin.get("/os-instance_usage_audit_log/yesterday").status == 400


def test_hosts_of_an_aggregate_fetch_images(quick: Federation) -> None:
    image = quick.images.add(b"wanted soon")
    made = quick.admin.post("/os-aggregates", {"aggregate": {"name": "near"}}, version="2.81").json["aggregate"]["id"]
    quick.admin.post(f"/os-aggregates/{made}/action", {"add_host": {"host": "cell2-host1"}}, version="2.81")
    path, body = f"/os-aggregates/{made}/images", {"cache": [{"id": image}]}
    assert quick.admin.post(path, body, version="2.80").status == 404
    assert quick.admin.post(path, {"cache": [{"id": image}, {"id": image}]}, version="2.81").status == 400
    assert quick.admin.post(path, {"cache": [{"id": str(uuid4())}]}, version="2.81").status == 400
    assert quick.admin.post("/os-aggregates/999/images", body, version="2.81").status == 404
    assert quick.admin.post(path, body, version="2.81").status == 202
    quick.until(lambda: image in quick.images.downloads)


def test_no_server_has_shares(quick: Federation) -> None:
    uuid, share = quick.boot(), str(uuid4())
    path, body = f"/servers/{uuid}/shares", {"share": {"share_id": share}}
    assert quick.admin.get(path, version="2.97").json == {"shares": []}
    assert quick.admin.get(path, version="2.96").status == 404
    assert quick.admin.get(f"{path}?x=1", version="2.97").status == 400
    assert quick.admin.post(path, body, version="2.97").status == 409
    assert quick.act(uuid, "os-stop").status == 202
    quick.settled(uuid)
    assert quick.admin.post(path, body, version="2.97").status == 404
    assert quick.admin.get(f"{path}/{share}", version="2.97").status == 404
    assert quick.admin.delete(f"{path}/{share}", version="2.97").status == 404
