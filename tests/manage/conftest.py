"""A site as its operator has it: a configuration file, databases, and the commands run on them."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cell_service.db import compute_nodes, instances, services
from cell_service.db.sql.engine import Database
from cell_service.model.host import NodeReport
from cell_service.model.instance import Flavor, Instance
from cell_service.model.lifecycle import VmState
from mapping_db import cell_mappings
from mapping_db.cell_mappings import CellMapping
from mapping_db.upgrades import GLOBAL
from tests.suites.schemas import prepare
from tools.manage import main, status

NOW = datetime(2026, 3, 1, tzinfo=UTC)
AHEAD = datetime(2100, 1, 1, tzinfo=UTC)
"""A heartbeat of this time never becomes too old."""
FLAVOR = Flavor("1", "small", vcpus=2, memory_mib=1024, root_gib=10)


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command answered and printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(slots=True)
class Site:
    """`new_url` gives the URL of a database that is not there, or empty."""

    directory: Path
    capsys: pytest.CaptureFixture[str]
    new_url: Callable[[str], str]
    opened: dict[str, Database] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)

    def url(self, name: str) -> str:
        if name not in self.urls:
            self.urls[name] = self.new_url(name)
        return self.urls[name]

    def database(self, name: str) -> Database:
        if name not in self.opened:
            self.opened[name] = Database(self.url(name))
        return self.opened[name]

    def configure(self, **options: str) -> None:
        """Options as section__name; without any, only the global database is named."""
        options = {"api_database__connection": self.url("api"), **options}
        sections: dict[str, list[str]] = {}
        for key, value in options.items():
            section, _, name = key.partition("__")
            sections.setdefault(section, []).append(f"{name} = {value}")
        text = "".join(f"[{name}]\n" + "\n".join(lines) + "\n" for name, lines in sections.items())
        (self.directory / "nova.conf").write_text(text, encoding="utf-8")

    def run(self, *words: str, program: Callable[[list[str]], int] = main.main) -> Ran:
        self.capsys.readouterr()
        try:
            code = program(["--config-file", str(self.directory / "nova.conf"), *words])
        except SystemExit as ended:
            code = int(ended.code or 0)
        printed = self.capsys.readouterr()
        return Ran(code, printed.out, printed.err)

    def status(self, *words: str) -> Ran:
        return self.run(*words, program=status.main)

    def add_cell(self, name: str, **options: str) -> CellMapping:
        """A mapped cell with a database that is synced."""
        words = [part for key, value in options.items() for part in (f"--{key}", value)]
        made = self.run("cell_v2", "create_cell", "--name", name, "--transport-url", f"memory://{name}",
                        "--database_connection", self.url(name), "-f", "json", *words)  # fmt: skip
        assert made.code == 0, made.err
        prepare(self.database(name))
        assert self.run("db", "sync", "--cell_uuid", made.json["uuid"]).code == 0
        return self.mapping(made.json["uuid"])

    def mapping(self, cell_uuid: str) -> CellMapping:
        with self.database("api").connect() as tx:
            return cell_mappings.get(tx, cell_uuid)

    def add_host(self, cell: str, host: str, *, node: bool = True, up: bool = True) -> None:
        """A host that has reported to the cell's database."""
        seen = AHEAD if up else NOW
        with self.database(cell).begin() as tx:
            service = services.register(tx, host=host, binary="nova-compute", topic="compute", version=1, now=seen)
            if node:
                report = NodeReport(host, str(uuid.uuid5(uuid.NAMESPACE_DNS, host)), "QEMU", 1, "::1", 4, 8192, 100)
                compute_nodes.report(tx, service.id, host, report, NOW)

    def add_instance(self, cell: str, *, host: str | None = None, deleted: bool = False, age: int = 0) -> str:
        """A row of the cell's database; nothing global."""
        made = Instance(
            uuid=str(uuid.uuid4()), project_id="p", user_id="u", display_name="n", flavor=FLAVOR,
            created_at=NOW - timedelta(seconds=age), host=host, vm_state=VmState.ACTIVE, task_state=None,
        )  # fmt: skip
        with self.database(cell).begin() as tx:
            instances.insert_new(tx, made)
            if deleted:
                instances.mark_deleted(tx, made.uuid, NOW)
        return made.uuid

    def close(self) -> None:
        for database in self.opened.values():
            database.dispose()


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Site]:
    """A site whose global database is synced and that has no cell yet."""
    yield from _site(tmp_path, capsys, lambda name: f"sqlite:///{tmp_path / name}.sqlite")


@pytest.fixture
def real_site(tmp_path: Path, capsys: pytest.CaptureFixture[str], mariadb: Any) -> Iterator[Site]:
    """The same on MariaDB."""
    yield from _site(tmp_path, capsys, lambda name: mariadb.create_database())


@pytest.fixture
def slow_site(tmp_path: Path, capsys: pytest.CaptureFixture[str], mariadb: Any, own_mariadb: Any) -> Iterator[Site]:
    """The same, with cells on a MariaDB of the module's own (`own_mariadb`)."""
    own_mariadb.revive()
    yield from _site(tmp_path, capsys, lambda name: (mariadb if name == "api" else own_mariadb).create_database())


def _site(directory: Path, capsys: pytest.CaptureFixture[str], new_url: Callable[[str], str]) -> Iterator[Site]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    made = Site(directory, capsys, new_url)
    made.configure()
    prepare(made.database("api"), GLOBAL)
    assert made.run("api_db", "sync").code == 0
    yield made
    made.close()
    root.handlers[:], root.level = handlers, level
