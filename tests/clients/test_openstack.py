"""The stock openstack client against what `polycell up` starts: a user's first session, and the operator's."""

from __future__ import annotations

import contextlib
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import openstack
import pytest
import requests

from tests.clients.installed import Installed
from tests.real.databases import wait_until
from tests.suites.certificates import certificate

pytestmark = pytest.mark.clients

EVERYTHING = {
    "compute", "placement", "identity", "image", "network", "volume", "share", "key-manager", "metadata", "console",
}  # fmt: skip


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory, misfits: list[str]) -> Iterator[Installed]:
    made = Installed(tmp_path_factory.mktemp("up"), misfits)
    made.up()
    yield made
    made.polycell("down")


def test_the_bundle_for_who_helps_is_whole_and_has_no_secret(cloud: Installed, tmp_path: Path) -> None:
    done = cloud.polycell("debug", str(tmp_path / "bundle.tar.gz"))
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 1), done.stdout + done.stderr
    with tarfile.open(tmp_path / "bundle.tar.gz") as opened:
        texts = [content.read().decode() for each in opened if (content := opened.extractfile(each))]
    passwords = json.loads((cloud.state / "etc" / "passwords.json").read_text(encoding="utf-8"))
    assert [name for name, password in passwords.items() if any(password in text for text in texts)] == []


def test_a_users_first_session(cloud: Installed) -> None:
    assert "m1.nano" in {each["Name"] for each in cloud.openstack("flavor", "list")}
    assert [each["Name"] for each in cloud.typed("image", "list")] == ["tiny"]
    assert [each["Name"] for each in cloud.typed("network", "list")] == ["private"]
    assert "BEGIN" in cloud.typed("keypair", "create", "mine")
    cloud.typed("server", "group", "create", "--policy", "anti-affinity", "apart")
    made = cloud.typed(
        "server", "create", "--flavor", "m1.nano", "--image", "tiny", "--network", "private",
        "--key-name", "mine", "--property", "a=b", "--wait", "vm",
    )  # fmt: skip
    assert made["status"] == "ACTIVE"
    (listed,) = cloud.typed("server", "list", "--long")
    assert (listed["Name"], listed["Status"], listed["Flavor"]) == ("vm", "ACTIVE", "m1.nano")
    assert "login:" in cloud.typed("console", "log", "show", "vm")
    for words, status in (
        (("stop",), "SHUTOFF"),
        (("start",), "ACTIVE"),
        (("reboot", "--hard"), "ACTIVE"),
        (("pause",), "PAUSED"),
        (("unpause",), "ACTIVE"),
        (("suspend",), "SUSPENDED"),
        (("resume",), "ACTIVE"),
    ):
        cloud.typed("server", *words, "vm")
        wait_until(lambda status=status: cloud.server("vm", "status") == status, f"it never was {status}", 40)
    assert cloud.typed("quota", "show")
    assert {each["Name"] for each in cloud.typed("limits", "show", "--absolute")} >= {"total_instances_used"}
    cloud.typed("server", "delete", "--wait", "vm")
    assert cloud.typed("server", "list") == []


def test_what_the_cloud_stores_is_its_owners_alone(cloud: Installed) -> None:
    modes = {}
    for path in (cloud.state, *cloud.state.rglob("*")):
        with contextlib.suppress(FileNotFoundError):  # some live for a moment only
            modes[path] = path.lstat().st_mode & 0o777
    assert modes[cloud.state / "db" / "api.sqlite"] == 0o600
    assert [path for path, mode in modes.items() if mode & 0o077] == []


def test_what_an_operator_looks_at(cloud: Installed) -> None:
    assert {each["State"] for each in cloud.typed("hypervisor", "list")} == {"up"}
    hosts = {each["Host"] for each in cloud.typed("compute", "service", "list")}
    assert {"cell1-host1", "cell2-host2"} <= hosts
    assert "nova" in {each["Zone Name"] for each in cloud.typed("availability", "zone", "list")}
    assert len(cloud.openstack("resource", "provider", "list")) == 4
    wait_until(lambda: cloud.polycell("status").returncode == 0, "it never was healthy", 30)
    told = json.loads(cloud.polycell("status", "-f", "json").stdout)
    assert [(cell["name"], cell["hosts_up"]) for cell in told["cells"]] == [("cell0", 0), ("cell1", 2), ("cell2", 2)]


def test_down_and_up_again_goes_on_with_the_data(cloud: Installed) -> None:
    words = ("server", "create", "--flavor", "m1.nano", "--image", "tiny", "--nic", "none", "--wait", "kept")
    uuid = cloud.typed(*words)["id"]
    assert cloud.polycell("down").returncode == 0
    assert cloud.polycell("status").returncode == 2
    assert cloud.polycell("down").returncode == 0
    assert "READY" in cloud.up()
    (listed,) = cloud.typed("server", "list")
    assert (listed["ID"], listed["Status"]) == (uuid, "ACTIVE")
    cloud.typed("server", "delete", "--wait", "kept")


def test_polycell_json_tells_all_and_logs_tell_no_secret(cloud: Installed) -> None:
    told = json.loads((cloud.state / "polycell.json").read_text(encoding="utf-8"))
    assert set(told["endpoints"]) == EVERYTHING
    assert [set(cell) for cell in told["cells"]] == [{"name", "uuid", "database", "transport"}] * 3
    assert {(each["role"], each["cell"], each["host"]) for each in told["processes"]} >= {
        ("api", None, None),
        ("super-conductor", None, None),
        ("conductor", "cell1", None),
        ("compute", "cell2", "cell2-host1"),
    }
    secrets = json.loads((cloud.state / "etc" / "passwords.json").read_text(encoding="utf-8")).values()
    for log in (cloud.state / "logs").iterdir():
        text = log.read_text(encoding="utf-8")
        assert not any(secret in text for secret in secrets), log


def test_a_process_for_each_service(tmp_path: Path, misfits: list[str]) -> None:
    cloud = Installed(tmp_path, misfits)
    try:
        cloud.up("--processes", "--hosts-per-cell", "1", "--workers", "2")
        told = json.loads((tmp_path / "polycell.json").read_text(encoding="utf-8"))
        pids = [each["pid"] for each in told["processes"]]
        assert len(set(pids)) == len(pids)
        titles = [Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode() for pid in pids]
        assert "polycell: compute cell1-host1" in titles
        words = ("server", "create", "--flavor", "m1.nano", "--image", "tiny", "--network", "private", "--wait", "vm")
        assert cloud.openstack(*words)["status"] == "ACTIVE"
        cloud.typed("server", "delete", "--wait", "vm")
    finally:
        down = cloud.polycell("down")
    assert down.returncode == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_with_a_certificate_all_is_https(tmp_path: Path) -> None:
    cert_file, key_file = certificate(tmp_path)
    cloud = Installed(tmp_path / "state")
    try:
        words = ("--cells", "1", "--hosts-per-cell", "1")
        assert "READY" in cloud.up(*words, "--tls-cert", str(cert_file), "--tls-key", str(key_file))
        endpoints = json.loads((cloud.state / "polycell.json").read_text(encoding="utf-8"))["endpoints"]
        assert {name for name, url in endpoints.items() if not url.startswith("https://127.0.0.1:")} == {"metadata"}
        listed = cloud.openstack("catalog", "list")
        assert all(each["url"].startswith("https://") for entry in listed for each in entry["Endpoints"])
        create = ("server", "create", "--flavor", "m1.nano", "--network", "private", "--wait", "vm")
        made = cloud.openstack(*create[:2], "--image", "tiny", *create[2:])
        assert (made["status"], len(made["addresses"])) == ("ACTIVE", 1)
        cloud.openstack("volume", "create", "--size", "1", "data")
        wait_until(lambda: cloud.openstack("volume", "show", "data")["status"] == "available", "the volume is not made")
        cloud.openstack("server", "add", "volume", "vm", "data")
        assert cloud.openstack("console", "url", "show", "--serial", "vm")["url"].startswith("wss://127.0.0.1:")
        known = openstack.config.OpenStackConfig(config_files=[str(cloud.state / "clouds.yaml")])
        with openstack.connection.Connection(config=known.get_one("polycell-demo")) as demo:
            assert [network.name for network in demo.network.networks()] == ["private"]
        assert json.loads(cloud.polycell("status", "-f", "json").stdout)["health"] == "healthy"
        with pytest.raises(requests.exceptions.SSLError):
            requests.get(endpoints["compute"], timeout=30)
    finally:
        assert cloud.polycell("down").returncode == 0


def test_without_an_identity_service(tmp_path: Path) -> None:
    cloud = Installed(tmp_path)
    try:
        cloud.up("--auth", "noauth2", "--cells", "1", "--hosts-per-cell", "1")
        told = json.loads((tmp_path / "polycell.json").read_text(encoding="utf-8"))
        assert set(told["endpoints"]) == EVERYTHING - {"identity"}
        assert cloud.openstack("compute", "service", "list")
    finally:
        assert cloud.polycell("down").returncode == 0
