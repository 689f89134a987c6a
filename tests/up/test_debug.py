"""What `polycell debug` bundles of a cloud whose servers are all down, and what it leaves out."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from tests.real.databases import free_port
from tools.up import configs, debug, record, shape
from tools.up import main as polycell
from tools.up.bundle import write
from tools.up.plan import Options, Plan, plan_of
from tools.up.redaction import Redaction, collect

OF_URLS = ("Db%2Fpw$1", "Db/pw$1", "first-pw", "second-pw")
"""In the URLs below, and as they are decoded."""


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """A cloud whose databases and queues are elsewhere, and dead; it has logged all of its secrets."""
    state = tmp_path_factory.mktemp("cloud")
    for name in ("etc", "logs"):
        (state / name).mkdir()
    port = free_port()
    database = f"mysql+pymysql://nova:Db%2Fpw$1@127.0.0.1:{port}/{{cell}}"
    transport = f"rabbit://u:first-pw@127.0.0.1:{port},u:second-pw@127.0.0.2:{port}/{{cell}}"
    plan = plan_of(Options(state, port_base=port, database=(database,), transport=(transport,)))
    configs.write_configs(plan)
    configs.write_clients(plan)
    shape.remember(plan)
    with plan.config("cell1").open("a", encoding="utf-8") as file:
        file.write("[glance]\napplication-credential-secret = of-an-account\n")
    record.write(plan, dict.fromkeys(("cell0", *plan.cells), "a uuid"), [], None)
    (state / "logs" / "polycell.log").write_text("began\n" + "\n".join(secrets(plan)) + "\nended\n")
    return plan


def secrets(plan: Plan) -> set[str]:
    """Written down here again: what the bundle must not have."""
    urls = {*plan.databases.values(), *plan.transports.values()} - {plan.databases["cell0"]}
    return {*plan.passwords.values(), *OF_URLS, *urls, "of-an-account"}


@pytest.fixture(scope="module")
def bundle(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    file = tmp_path_factory.mktemp("bundle") / "bundle.tar.gz"
    assert polycell.main(["debug", str(file), "--state", str(plan.state)]) == 0
    assert file.stat().st_mode & 0o777 == 0o600
    with tarfile.open(file) as opened:
        entries = {each: opened.extractfile(each) for each in opened}
        return {each.name: content.read().decode() for each, content in entries.items() if content is not None}


def test_no_secret_of_the_cloud_is_in_it(plan: Plan, bundle: dict[str, str]) -> None:
    found = {(name, secret) for name, text in bundle.items() for secret in secrets(plan) if secret in text}
    assert found == set()
    assert bundle["polycell-debug/logs/polycell.log"].splitlines()[:: len(secrets(plan)) + 1] == ["began", "ended"]


def test_it_has_the_configuration_and_what_it_could_not_have_is_named(plan: Plan, bundle: dict[str, str]) -> None:
    index = json.loads(bundle["polycell-debug/index.json"])
    notes = {each["file"]: each["note"] for each in index["files"]}
    assert {f"polycell-debug/{name}" for name in notes} == bundle.keys() - {"polycell-debug/index.json"}
    assert notes["cells.txt"].startswith("exit code")
    assert "does not answer" in notes["metrics/compute.txt"]
    assert notes["etc/nova.conf"] == notes["logs/polycell.log"] == notes["versions.json"] == ""
    assert f"report_interval = {configs.REPORT_SECONDS}" in bundle["polycell-debug/etc/nova.conf"]
    assert json.loads(bundle["polycell-debug/polycell.json"])["credentials"]["admin"]["password"] == "***"
    assert json.loads(bundle["polycell-debug/status.json"])["health"] == "down"
    assert "etc/passwords.json" not in notes


def test_a_file_whose_secrets_are_not_known_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    broken = tmp_path / "etc" / "nova.conf"
    broken.write_text("password = before-any-section\n= and no name\n", encoding="utf-8")
    found, unreadable = collect(tmp_path)
    assert (found, set(unreadable)) == (set(), {broken})
    parts = {each.file: each for each in debug._gather(tmp_path, unreadable)}
    assert parts["etc/nova.conf"].text == ""
    assert "left out" in parts["etc/nova.conf"].note
    assert "no cloud" in parts["processes.json"].note


def test_the_end_of_a_long_log_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debug, "LOG_BYTES", 20)
    path = tmp_path / "long.log"
    path.write_text("".join(f"line {number}\n" for number in range(9)))
    part = debug._file("long.log", path)
    assert part.text == "line 7\nline 8\n"
    assert part.note == "the end of 63 bytes"


def test_secrets_are_replaced_however_they_are_escaped() -> None:
    redaction = Redaction({'a"b$c/d', "longer", "long"})
    assert redaction.text('a"b$c/d a"b$$c/d a\\"b$c/d a%22b%24c%2Fd longer') == "*** *** *** *** ***"
    assert redaction.document({"adminPass": "x", "token": "", "n": [1, "long"]}) == {
        "adminPass": "***", "token": "", "n": [1, "***"],
    }  # fmt: skip


def test_it_is_refused_where_it_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert polycell.main(["debug", "--state", str(tmp_path)]) == 1
    assert "has no cloud" in capsys.readouterr().err
    (tmp_path / "there").write_text("mine")
    (tmp_path / "logs").mkdir()
    assert polycell.main(["debug", str(tmp_path / "there"), "--state", str(tmp_path)]) == 1
    assert "there is there already" in capsys.readouterr().err
    with pytest.raises(debug.Invalid, match="there cannot be made: File exists"):
        write(tmp_path / "there", [], debug.SYSTEM_CLOCK.now())
    assert (tmp_path / "there").read_text() == "mine"
