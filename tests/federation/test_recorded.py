"""Work that an earlier version has recorded is finished by this one. `tests/recorded/make.py` makes the recordings."""

from __future__ import annotations

import base64
import json
import lzma
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from cell_service import wire
from cell_service.context import SYSTEM_CLOCK, Deadline
from cell_service.db import schema
from cell_service.db import upgrades as migrate
from cell_service.model.move import MovePhase
from cell_service.peers.image import Image
from mapping_db import build_requests, cell_mappings, moves
from tests.federation.cloud import Federation
from tests.federation.passwords import found_in
from tests.suites.peers import MemoryImages

RECORDED = Path(__file__).parent.parent / "recorded"
AGE = timedelta(seconds=20)
"""How long ago the recorded version stopped: leases are over, its hosts still count as up."""
HOST = "OS-EXT-SRV-ATTR:host"
_TIME = re.compile(r"\d{4}-\d\d-\d\d([ T])\d\d:\d\d:\d\d")
Case = dict[str, Any]


class Returned(Federation):
    """A federation that goes on with what another one has left."""

    def __init__(self, directory: Path, recording: dict[str, Any]) -> None:
        self.recording = recording
        for name, text in recording["files"].items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".json":
                path.write_text(text)
            else:
                with closing(sqlite3.connect(path)) as database:
                    database.executescript(text)
        for name, size in recording["volumes"].items():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            with (directory / name).open("wb") as file:
                file.truncate(size)
        super().__init__(
            directory, hosts=3, reclaim=3600, offload_seconds=-1, vcpus=4096, move_seconds=0, live_seconds=0
        )

    def first_images(self) -> MemoryImages:
        made = MemoryImages()
        for plain, content in self.recording["images"]:
            image: Image = wire.from_plain(Image, plain)
            made.records[image.id], made.contents[image.id] = image, base64.b64decode(content)
        return made

    def first_flavor(self) -> None:
        """It is there."""

    def _map(self, name: str) -> int:
        self._uuids: dict[str, str] = self.recording["cells"]
        database = self.cell_database(name)
        migrate.sync(database)
        database.dispose()
        with self.db.begin() as tx:
            cell_mappings.change(tx, self._uuids[name], now=SYSTEM_CLOCK.now(), transport_url=self._queue(name),
                                 database_connection=self._database(name))  # fmt: skip
            return cell_mappings.get(tx, self._uuids[name]).id


def loaded(path: Path, directory: Path) -> dict[str, Any]:
    """The recording as if it had been made AGE ago, in that directory."""
    text = lzma.decompress(path.read_bytes()).decode().replace("@DIRECTORY@", str(directory))
    recorded_at = datetime.fromisoformat(json.loads(text)["recorded_at"])
    later = SYSTEM_CLOCK.now().replace(tzinfo=None, microsecond=0) - AGE - recorded_at

    def shifted(found: re.Match[str]) -> str:
        moment = datetime.fromisoformat(found[0])
        return (moment + later).isoformat(found[1]) if abs(moment - recorded_at) < timedelta(days=1) else found[0]

    recording: dict[str, Any] = json.loads(_TIME.sub(shifted, text))
    return recording


@pytest.fixture(scope="module", params=["bda67a9"])
def returned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Returned]:
    """Everything runs again, and the dead host is back."""
    directory = tmp_path_factory.mktemp("returned")
    made = Returned(directory, loaded(RECORDED / f"{request.param}.xz", directory))
    body = {"host": "cell1-host3", "binary": "nova-compute", "forced_down": False}
    assert made.admin.put("/os-services/force-down", body, version="2.11").status == 200
    yield made
    made.close()


@pytest.mark.wide
@pytest.mark.timeout(900)
def test_all_that_was_recorded_ends_as_it_should(returned: Returned) -> None:
    cases: list[Case] = returned.recording["cases"]
    returned.until(lambda: not (moving(returned) or requested(returned) or returned.unfinished()), 240)

    def wrong() -> list[str]:
        return [f"{case}: {reason}" for case in cases if (reason := unfinished(returned, case))]

    returned.until(lambda: not wrong(), 10)
    check_ownership(returned)
    assert found_in(returned, returned.recording["password"]) == []


def unfinished(cloud: Federation, case: Case) -> str:
    """Why the case has not come to its end; empty when it has."""
    end, answer = case["end"], cloud.admin.get(f"/servers/{case['uuid']}", version="2.96")
    if end is None:
        return "" if answer.status == 404 else "it is still there"
    if answer.status != 200:
        return f"it answers {answer.status}"
    shown = answer.json["server"]
    if shown.get("OS-EXT-STS:task_state", "none known") is not None:
        return f"its task is {shown.get('OS-EXT-STS:task_state')}"
    if shown["status"] != end["status"] or ("host" in end and shown[HOST] != end["host"]):
        return f"it is {shown['status']} on {shown[HOST]}: {shown.get('fault')}"
    return "it has not left" if shown[HOST] == end.get("not_host", "") else ""


def moving(cloud: Federation) -> list[str]:
    """Moves that have not come to their end, and do not wait for their conclusion."""
    with cloud.db.connect() as tx:
        rows = moves.unfinished(tx)
    return [
        f"{row.uuid} of {row.instance_uuid} {row.kind} {row.phase} {row.plan}"
        for row in rows
        if row.phase is not MovePhase.WAITING
    ]


def requested(cloud: Federation) -> list[str]:
    with cloud.db.connect() as tx:
        return [each.instance_uuid for each in build_requests.of_project(tx, None)]


def check_ownership(cloud: Federation) -> None:
    """One cell owns each server, one host has its guest (two while a move waits for its conclusion), and what is
    allocated is what the servers have."""
    with cloud.db.connect() as tx:
        waiting = {move.instance_uuid: move for move in moves.unfinished(tx)}
    owners: dict[str, list[str]] = {}
    hosts: dict[str, set[str]] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for name in cloud.names[1:]:
        with cloud.cells.open(cloud.ids[name]).db.connect(Deadline.after(10)) as tx:
            for row in tx.execute(select(schema.instances).where(schema.instances.c.deleted_at.is_(None))):
                if row.hidden:
                    assert row.uuid in waiting, row
                    continue
                owners.setdefault(row.uuid, []).append(name)
                hosts[row.uuid] = {row.host} if row.host else set()
                sizes[row.uuid] = row.vcpus, row.memory_mb
                if row.uuid in waiting:
                    hosts[row.uuid].add(waiting[row.uuid].source_host or "")
    assert {uuid: names for uuid, names in owners.items() if len(names) != 1} == {}
    guests: dict[str, set[str]] = {}
    for host, uuids in cloud.guests().items():
        for uuid in uuids:
            guests.setdefault(uuid, set()).add(host)
    assert {uuid: (found, guests.get(uuid)) for uuid, found in hosts.items() if guests.get(uuid, set()) != found} == {}
    assert guests.keys() <= hosts.keys()
    allocated = cloud.allocations()
    placed = {uuid: sizes[uuid] for uuid, found in hosts.items() if found}
    assert {uuid: (has["VCPU"], has["MEMORY_MB"]) for uuid, has in allocated.items() if uuid in placed} == placed
    assert allocated.keys() - placed.keys() == {move.uuid for move in waiting.values()}
