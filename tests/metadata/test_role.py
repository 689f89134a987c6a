"""The role `metadata` as configuration files describe it: of one cell, or of the whole cloud."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path

import pytest

from cell_service.context import SYSTEM_CLOCK
from cell_service.db import instances
from cell_service.db.sql.engine import Database
from cell_service.errors import Invalid
from mapping_db import cell_mappings, instance_mappings
from mapping_db.instance_mappings import InstanceMapping
from mapping_db.upgrades import GLOBAL
from tests.metadata import samples
from tests.metadata.test_service import SECRET, UUID, signed
from tests.real.databases import free_port
from tests.suites.schemas import prepare
from tools.services.compose import Composer
from tools.services.part import Part

BASICS = f"""
[DEFAULT]
transport_url = memory://role
[neutron]
auth_type = none
endpoint_override = http://127.0.0.1:1
service_metadata_proxy = true
metadata_proxy_shared_secret = {SECRET}
"""


class Files:
    """Databases of a cloud with one cell, and configuration files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.cell_url = f"sqlite:///{directory}/cell.db"
        self.global_url = f"sqlite:///{directory}/global.db"
        cell, everything = Database(self.cell_url), Database(self.global_url)
        prepare(cell)
        prepare(everything, GLOBAL)
        now = SYSTEM_CLOCK.now()
        with cell.begin() as tx:
            assert instances.insert_new(tx, samples.instance())
        with everything.begin() as tx:
            mapping = cell_mappings.insert_new(
                tx, uuid="aaaaaaaa-4e5f-4a6b-8c7d-8e9f0a1b2c3d", name="cell1", transport_url="memory://role",
                database_connection=self.cell_url, now=now,
            )  # fmt: skip
            mapped = InstanceMapping(
                instance_uuid=UUID, project_id="project-1", user_id="user-1", created_at=now,
                display_name="Web One", vcpus=1, memory_mb=64,
            )  # fmt: skip
            instance_mappings.insert_new(tx, [mapped])
            instance_mappings.move(tx, UUID, source=None, target=mapping.id)
        cell.dispose()
        everything.dispose()
        self.parts: list[Part] = []

    def start(self, text: str) -> int:
        """The port of the role that the text describes."""
        path = self.directory / "nova.conf"
        path.write_text(BASICS + text)
        port = free_port()
        part = Composer([str(path)]).part("metadata", port=port, address="127.0.0.1")
        part.start()
        self.parts.append(part)
        return port


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    made = Files(tmp_path)
    yield made
    for part in made.parts:
        part.stop(2)


def ask(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path, headers=signed())
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_of_the_whole_cloud(files: Files) -> None:
    port = files.start(f"[api_database]\nconnection = {files.global_url}\n")
    assert ask(port, "/latest/meta-data/hostname") == (200, b"web-one.novalocal")


def test_of_one_cell(files: Files) -> None:
    port = files.start(f"[database]\nconnection = {files.cell_url}\n[api]\ndhcp_domain =\n")
    assert ask(port, "/latest/meta-data/hostname") == (200, b"web-one")


def test_per_cell_although_there_is_a_global_database(files: Files) -> None:
    port = files.start(
        f"[database]\nconnection = {files.cell_url}\n"
        "[api_database]\nconnection = sqlite:////nowhere/at/all.db\n[api]\nlocal_metadata_per_cell = true\n"
    )
    assert ask(port, "/healthz") == (200, b"OK")
    assert ask(port, "/latest/meta-data/launch-index")[0] == 404
    assert ask(port, "/latest/meta-data/ami-launch-index") == (200, b"3")


def test_without_any_database(files: Files) -> None:
    with pytest.raises(Invalid):
        files.start("")
