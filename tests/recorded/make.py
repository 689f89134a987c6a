"""Makes the recording of work in flight that `test_recorded` finishes: databases of a federation that stands still.

It runs the code of the version that is recorded, not this one:

    git worktree add /tmp/old VERSION && PYTHONPATH=/tmp/old python tests/recorded/make.py tests/recorded/VERSION.xz

(with an environment that has the dependencies of that version). Each case is a server on which one piece of work stands
still: a move before one of its steps, an operation that is open or claimed, a build request at one of its stages.
The recording says, too, what each is to become. Written for commit bda67a9; another version needs other names.
"""

from __future__ import annotations

import base64
import json
import lzma
import os
import sqlite3
import sys
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from api_cell.superconductor.means import SuperConductorSettings
from recorded_builds import make_builds, make_open_builds
from recorded_moves import make_moves
from recorded_operations import OPERATIONS, action, make_operations
from recorded_standstill import (
    PASSWORD,
    Case,
    wrap,
)

from api_cell.scheduler.scheduler import Scheduler
from api_cell.superconductor.service import SuperConductorService
from cell_service import wire
from cell_service.context import SYSTEM_CLOCK
from cell_service.model.instance import Flavor
from compute_host.config import HostSettings
from mapping_db import flavors
from tests.federation.cloud import Federation


class Recorder(Federation):
    """A federation whose work stops where `stops`, `on_hosts` and `halted` say."""

    def start_superconductor(self) -> SuperConductorService:
        settings = SuperConductorSettings(scan_seconds=0.2, discover_seconds=0.2, lease_seconds=15,
                                          reclaim_seconds=self.reclaim_seconds)  # fmt: skip
        made = SuperConductorService(self.cloud, Scheduler(self.cloud), settings)
        made.start()
        return made

    def host(self, name: str) -> HostSettings:
        return replace(super().host(name), max_concurrent_verbs=1000, max_concurrent_builds=1000)


def dump(cloud: Federation, directory: Path, target: Path, cases: list[Case]) -> None:
    """One file: the databases as text, what the hosts remember, the images, and the sizes of the volumes' files."""
    files: dict[str, str] = {}
    volumes: dict[str, int] = {}
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if path.suffix in (".db", ".sqlite"):
            with closing(sqlite3.connect(path)) as database:
                files[name] = "\n".join(database.iterdump())
        elif path.suffix == ".json":
            files[name] = path.read_text()
        elif path.is_file() and name.startswith("volume/volumes/"):
            volumes[name] = path.stat().st_size
    images = [[wire.to_plain(image), base64.b64encode(cloud.images.contents.get(image.id, b"")).decode()]
              for image in cloud.images.records.values()]  # fmt: skip
    recording = {
        "recorded_at": SYSTEM_CLOCK.now().strftime("%Y-%m-%d %H:%M:%S"), "password": PASSWORD,
        "image_id": cloud.image_id,
        "cells": cloud._uuids, "cases": cases, "files": files, "volumes": volumes, "images": images,
    }  # fmt: skip
    text = json.dumps(recording).replace(str(directory), "@DIRECTORY@")
    target.write_bytes(lzma.compress(text.encode(), preset=9))


def main(target: Path) -> None:
    directory = Path(tempfile.mkdtemp())
    wrap()
    cloud = Recorder(directory, hosts=3, reclaim=3600, offload_seconds=-1, vcpus=4096, move_seconds=0, live_seconds=0)
    for flavor in (Flavor("2", "larger", 2, 128, 2), Flavor("3", "too large", 4097, 64, 1)):
        cloud.db.run(lambda tx, flavor=flavor: flavors.insert_flavor(tx, flavor, SYSTEM_CLOCK.now()))
    cases = make_moves(cloud)
    OPERATIONS["rebuild"] = (OPERATIONS["rebuild"][0], action("rebuild", {"imageRef": cloud.image_id,
                             "adminPass": PASSWORD}), "ACTIVE")  # fmt: skip
    cases += make_operations(cloud, "running")
    cases += make_builds(cloud)
    cases += make_operations(cloud, "open")
    cases += make_open_builds(cloud)
    dump(cloud, directory, target, cases)
    sys.stdout.write(f"{len(cases)} cases in {target}\n")
    sys.stdout.flush()
    os._exit(0)  # threads stand still


if __name__ == "__main__":
    main(Path(sys.argv[1]))
