"""kill -9 of `move_host`, and of the host's agent, while a host goes to another cell and back: nothing is lost."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
from sqlalchemy import select

from bench.target import MANAGE_FILES
from mapping_db import schema as tables
from tests.faults import books, bursts
from tests.faults.installation import ROOT, Installation

pytestmark = [pytest.mark.real, pytest.mark.faults, pytest.mark.timeout(900)]

log = logging.getLogger(__name__)

HOST = "cell1-host1"
COUNT = 10


def command(cloud: Installation, target: str) -> subprocess.Popen[str]:
    files = [word for name in MANAGE_FILES for word in ("--config-file", str(cloud.state / name))]
    words = ["cell_v2", "move_host", "--host", HOST, "--to", target, "--wait", "60", "--verbose"]
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "tools.manage.main", *files, *words],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def move(cloud: Installation, target: str) -> None:
    running = command(cloud, target)
    said, _ = running.communicate(timeout=120)
    assert running.returncode == 0, said


def kill_in_the_middle(cloud: Installation, target: str, at: str) -> None:
    """As soon as it says that it has come so far, or further."""
    running = command(cloud, target)
    assert running.stdout is not None
    for line in running.stdout:
        if line.startswith(at):
            break
    running.kill()
    running.communicate()
    with cloud.reading("api") as tx:
        log.info("killed at %s, recorded is %s", at, tx.execute(select(tables.host_moves.c.step)).scalar())


def cell_of(cloud: Installation) -> str:
    joined = tables.host_mappings.join(tables.cell_mappings)
    with cloud.reading("api") as tx:
        name: str = tx.execute(
            select(tables.cell_mappings.c.name).select_from(joined).where(tables.host_mappings.c.host == HOST)
        ).scalar_one()
    return name


def test_killed_again_and_again_a_host_arrives(cloud: Installation) -> None:
    bursts.creating(cloud, COUNT).results()
    bursts.settle(cloud)
    before = books.demand_balance(cloud)
    for target in ("cell2", "cell1"):
        for at in ("leaving", "frozen", "copied", "owned", "shown", "mapped", "notified"):
            kill_in_the_middle(cloud, target, at)
            if at == "notified":
                cloud.kill("compute", host=HOST)
            assert {server["id"] for server in cloud.user.servers()} == set(before)
        cloud.until_healthy()
        move(cloud, target)
        bursts.settle(cloud)
        assert cell_of(cloud) == target
        assert books.demand_balance(cloud).keys() == before.keys()
    bursts.sweep(cloud)
    books.demand_nothing(cloud)
