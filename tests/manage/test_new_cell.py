"""cell_v2 init: what it writes makes a cell, on real servers too, and it runs nothing itself."""

from __future__ import annotations

import io
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError

from cell_service.db import upgrades
from cell_service.db.sql.engine import Database
from cell_service.errors import PolycellError
from cell_service.rpc.transports import open_transport
from tests.manage.conftest import Ran, Site
from tools.manage.settings import read_settings

SERVERS = ("--database-host", "db2:3307", "--queue-host", "mq2")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def configure(site: Site, kind: str = "mysql+pymysql") -> None:
    site.configure(database__connection=f"{kind}://nova_admin:it's%5C@top/nova_cell0",
                   DEFAULT__transport_url="rabbit://nova_api:mq'pass@top/nova",
                   placement__auth_url="http://keystone:5000", placement__username="u", placement__password="p",
                   placement__project_name="service")  # fmt: skip


def init(site: Site, *words: str) -> Ran:
    return site.run("cell_v2", "init", "c-2", "--directory", str(site.directory / "made"), *words)


def texts(site: Site) -> dict[str, str]:
    return {each.name: each.read_text(encoding="utf-8") for each in (site.directory / "made").iterdir()}


def test_files_are_their_owners_and_passwords_are_in_no_output(site: Site) -> None:
    configure(site)
    ran = init(site, *SERVERS)
    assert ran.code == 0, ran.err
    made = site.directory / "made"
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert {each.name for each in made.iterdir()} == {"database.sql", "queue.sh", "conductor.conf", "compute.conf"}
    assert {stat.S_IMODE(each.stat().st_mode) for each in made.iterdir()} == {0o600}
    passwords = {make_url(read_settings((str(made / "conductor.conf"),)).database).password, "mq'pass", "it's\\"}
    assert not any(str(each) in ran.out for each in passwords)


def test_the_files_agree(site: Site) -> None:
    configure(site)
    init(site, *SERVERS)
    found = texts(site)
    conductor = read_settings((str(site.directory / "made" / "conductor.conf"),))
    compute = read_settings((str(site.directory / "made" / "compute.conf"),))
    url = make_url(conductor.database)
    assert (url.host, url.port, url.database, url.username) == ("db2", 3307, "nova_c_2", "nova-c-2")
    assert f"IDENTIFIED BY '{url.password}'" in found["database.sql"]
    assert "'nova_admin'@'%' IDENTIFIED BY 'it''s\\\\'" in found["database.sql"]
    assert compute.transport_url == conductor.transport_url
    assert make_url(conductor.transport_url).password in found["queue.sh"]
    assert compute.database == ""
    assert conductor.placement.auth_url == "http://keystone:5000"


def test_the_next_commands_are_said(site: Site) -> None:
    configure(site)
    ran = init(site, *SERVERS, "-f", "json")
    create = next(each for each in ran.json["commands"] if "create_cell" in each)
    words = re.findall(r"'[^']*'|\S+", create)[1:]
    assert site.run(*[word.strip("'") for word in words]).code == 0
    assert site.run("cell_v2", "list_cells", "-f", "json").json[0]["name"] == "c-2"
    assert "nova_c_2" in create


def test_a_person_is_asked_for_what_is_missing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(site)
    monkeypatch.setattr(sys, "stdin", Terminal("\ndb9\nmq9\n"))
    ran = init(site)
    assert (ran.code, ran.err.count(": ")) == (0, 3)
    assert "@mq9/c-2" in texts(site)["compute.conf"]


@pytest.mark.parametrize("words", [(), ("--database-host", "db2"), (*SERVERS[:2], "--queue-host", "a b"),
                                   (*SERVERS[:2], "--queue-host", "mq'; rm")])  # fmt: skip
def test_nothing_is_written_when_something_is_missing_or_wrong(site: Site, words: tuple[str, ...]) -> None:
    configure(site)
    ran = init(site, *words)
    assert (ran.code, len(ran.err.splitlines())) == (1, 1)
    assert not (site.directory / "made").exists()


def test_a_configuration_without_accounts_is_1(site: Site) -> None:
    assert init(site, *SERVERS).code == 1
    configure(site)
    assert site.run("cell_v2", "init", "x'y", *SERVERS).code == 1


def test_a_directory_that_is_there_stays_as_it_is(site: Site) -> None:
    configure(site)
    (site.directory / "made").mkdir()
    assert init(site, *SERVERS).code == 2
    assert not texts(site)


def test_the_queue_script_is_a_script(site: Site) -> None:
    configure(site)
    init(site, *SERVERS)
    subprocess.run(["sh", "-n", str(site.directory / "made" / "queue.sh")], check=True)


@pytest.mark.real
@pytest.mark.parametrize("kind", ["mariadb", "postgresql"])
def test_the_sql_makes_a_database_and_its_accounts(site: Site, request: pytest.FixtureRequest, kind: str) -> None:
    server = request.getfixturevalue(kind)
    configure(site, "mysql" if kind == "mariadb" else "postgresql")
    name = f"s{os.getpid()}{kind[0]}"
    made = site.directory / name
    ran = site.run("cell_v2", "init", name, "--directory", str(made), "--database-host", f"127.0.0.1:{server.port}",
                   "--queue-host", "mq2")  # fmt: skip
    assert ran.code == 0, ran.err
    admin = make_url(server.create_database())
    client = (
        ["mariadb", "-h", "127.0.0.1", "-P", str(server.port), "-u", str(admin.username)] if kind == "mariadb"
        else ["psql", "-v", "ON_ERROR_STOP=1", "-q", "-d", admin.set(drivername="postgresql").render_as_string()]
    )  # fmt: skip
    for _ in range(2 if kind == "mariadb" else 1):
        with (made / "database.sql").open("rb") as sql:
            done = subprocess.run(client, stdin=sql, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    conductor = Database(read_settings((str(made / "conductor.conf"),)).database)
    syncing = Database(
        conductor.url.set(username="nova_admin", password="it's\\").render_as_string(hide_password=False)
    )
    with pytest.raises((PolycellError, DBAPIError)):
        upgrades.sync(conductor)
    upgrades.sync(syncing)
    assert upgrades.version(conductor) == upgrades.newest()
    conductor.run(lambda tx: tx.exec_driver_sql("DELETE FROM services"))
    conductor.dispose()
    syncing.dispose()


@pytest.mark.real
def test_the_script_makes_a_vhost_and_its_accounts(
    site: Site, rabbitmq: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(site)
    made = site.directory / "made"
    init(site, *SERVERS[:2], "--queue-host", f"127.0.0.1:{rabbitmq.port}")
    (tmp_path / "bin").mkdir()
    rabbitmq.write_control(tmp_path / "bin" / "rabbitmqctl")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    done = subprocess.run(["sh", str(made / "queue.sh")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    transport = open_transport(read_settings((str(made / "compute.conf"),)).transport_url)
    transport.ping(timeout=30)
    transport.close()
