"""The benchmarks: they understand their lines, and their load generator counts right. Nothing here is timed."""

from __future__ import annotations

import asyncio
import importlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tornado.httpserver
import tornado.ioloop
import tornado.netutil
import tornado.web

from bench import list as listing
from bench import load, micro, show, startup, table, target
from cell_service.db.sql.engine import Database
from tests.manage.conftest import Site

ROOT = Path(__file__).parent.parent.parent
PROGRAMS = ["show", "list", "boot", "startup", "table", "micro"]


class Echo(tornado.web.RequestHandler):
    async def respond(self) -> None:
        if self.request.path == "/chunks":
            for part in (b"a" * 70_000, b"b", b"c" * 10):
                self.write(part)
                await self.flush()
            return
        if self.request.path == "/none":
            self.set_status(204)
            return
        if self.request.path == "/hang-up":
            self.request.connection.stream.close()  # type: ignore[union-attr]
            return
        self.set_status(int(self.get_argument("status", "200")))
        self.write(self.request.body or self.request.path.encode())

    get = post = respond


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A small server on a thread."""
    started: list[Any] = []
    ready = threading.Event()

    async def serve() -> None:
        sockets = tornado.netutil.bind_sockets(0, "127.0.0.1")
        server = tornado.httpserver.HTTPServer(tornado.web.Application([(r"/.*", Echo)]))
        server.add_sockets(sockets)
        end = asyncio.Event()
        started.extend((sockets[0].getsockname()[1], asyncio.get_running_loop(), end))
        ready.set()
        await end.wait()
        server.stop()
        await server.close_all_connections()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(30)
    yield started[0]
    started[1].call_soon_threadsafe(started[2].set)
    thread.join(30)


def requested(port: int, *requests: bytes, concurrency: int = 2) -> tuple[load.Figures, list[load.TimedAnswer | None]]:
    return asyncio.run(load.each_once("127.0.0.1", port, requests, concurrency=concurrency))


def test_each_request_gets_its_own_answer(port: int) -> None:
    paths = [f"/{number}" for number in range(50)]
    figures, answers = requested(port, *(load.request("GET", "h", path) for path in paths), concurrency=7)
    assert [answer.body.decode() for answer in answers if answer] == paths
    assert len(figures.latencies) == 50
    assert not figures.errors


def test_bodies_go_out_and_come_back_whole(port: int) -> None:
    large = b"x" * 300_000
    _, (posted, chunked, empty) = requested(
        port, load.request("POST", "h", "/", body=large), load.request("GET", "h", "/chunks"),
        load.request("GET", "h", "/none"), concurrency=1,
    )  # fmt: skip
    assert posted is not None
    assert chunked is not None
    assert empty is not None
    assert posted.body == large
    assert chunked.body == b"a" * 70_000 + b"b" + b"c" * 10
    assert (empty.status, empty.body) == (204, b"")


def test_refusals_and_broken_connections_are_errors_and_the_rest_goes_on(port: int) -> None:
    figures, answers = requested(
        port, load.request("GET", "h", "/?status=503"), load.request("GET", "h", "/hang-up"),
        load.request("GET", "h", "/fine"), concurrency=1,
    )  # fmt: skip
    assert figures.errors == {"503": 1, "ConnectionResetError": 1}
    assert [answer and answer.status for answer in answers] == [503, None, 200]
    assert figures.summary()["requests"] == 1


def test_a_server_that_is_not_there_is_an_error(port: int) -> None:
    figures, answers = requested(1, load.request("GET", "h", "/"))
    assert sum(figures.errors.values()) == 1
    assert answers == [None]


def test_load_for_a_while_counts_what_came_back(port: int) -> None:
    requests = [load.request("GET", "h", f"/{number}") for number in range(3)]
    figures = asyncio.run(
        load.for_seconds("127.0.0.1", port, requests, concurrency=4, seconds=0.2, warm_seconds=0.05)
    )  # fmt: skip
    summary = figures.summary()
    assert summary["requests"] > 0
    assert summary["errors"] == 0


@pytest.mark.parametrize(
    ("values", "percent", "found"),
    [([], 50, 0.0), ([7.0], 99, 7.0), ([4.0, 1.0, 3.0, 2.0], 50, 2.0), (list(map(float, range(1, 101))), 99, 99.0)],
)
def test_percentiles(values: list[float], percent: float, found: float) -> None:
    assert load.percentile(values, percent) == found


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_help_themselves(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"bench.{program}").main(["--help"])
    assert ended.value.code == 0
    assert "usage:" in capsys.readouterr().out


def test_programs_run_as_scripts_too() -> None:
    ran = subprocess.run([sys.executable, str(ROOT / "bench" / "show.py"), "--state", "/nowhere"], capture_output=True,
                         text=True, cwd="/")  # fmt: skip
    assert ran.returncode == 1
    assert len(ran.stderr.splitlines()) == 1


def write_cloud(directory: Path, port: int, **more: Any) -> None:
    reported = {"endpoints": {"compute": f"http://127.0.0.1:{port}/v2.1"},
            "admin": {"username": "admin", "project_name": "admin"}, "cells": [], "processes": [], **more}  # fmt: skip
    (directory / "polycell.json").write_text(json.dumps(reported), encoding="utf-8")


def test_what_the_launcher_wrote_is_understood(tmp_path: Path, port: int) -> None:
    write_cloud(tmp_path, port, cells=[{"name": "cell1", "uuid": "u", "database": "sqlite:///x"}])
    cloud = target.read(str(tmp_path))
    assert (cloud.port, cloud.prefix, cloud.token) == (port, "/v2.1", "admin:admin")
    assert target.database_url(cloud.cells[0]) == "sqlite:///x"


def test_a_cloud_that_cannot_be_measured_is_one_line(
    tmp_path: Path, port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cloud(tmp_path, 1)
    assert show.main(["--state", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert len(printed.err.splitlines()) == 1
    assert printed.out == ""


def test_the_floor_reads_the_rows_it_is_asked_for(site: Site) -> None:
    site.add_cell("c1")
    wanted = [site.add_instance("c1") for _ in range(3)]
    site.add_instance("c1")
    floor = listing.Floor(site.url("c1"))
    assert len(floor.read(wanted)[1]) == 3
    assert floor.read([]) == (0.0, [])


@pytest.mark.real
def test_the_floor_reads_on_mariadb(real_site: Site) -> None:
    real_site.add_cell("c1")
    assert len(listing.Floor(real_site.url("c1")).read([real_site.add_instance("c1")])[1]) == 1
    assert isinstance(real_site.database("c1"), Database)


def test_memory_of_a_process_is_told() -> None:
    reported = startup.memory(1 << 30)
    assert reported == {"rss_mib": None, "pss_mib": None}
    assert startup.cpu_seconds(1 << 30) == 0.0


def test_pieces_can_be_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert micro.main(["--instances", "20", "--rounds", "20"]) == 0
    assert len(json.loads(capsys.readouterr().out)["runs"]) == 4


def test_results_become_one_table(tmp_path: Path) -> None:
    summary = load.Figures(1.0, 0.1, [0.001]).summary()
    boot = {"burst": 5, "variant": "many", "accept": summary, "active": 5, "error": 0, "unfinished": 0,
            "all_done_seconds": 1.0, "active_p50_seconds": 0.5, "active_p99_seconds": 1.0,
            "delete": {**summary, "all_gone_seconds": 1.0, "left": 0}}  # fmt: skip
    run = {"cells": 2, "limit": 100, "list_ms": 5.0, "floor_ms": 2.0, "slowest_cell_ms": 1.0, "ratio_to_floor": 2.5}
    process = {"role": "api", "cell": None, "host": None, "rss_mib": 1.0, "pss_mib": 1.0, "cpu_share": 0.0}
    text = table.table(
        [{"bench": "show", "runs": [{"concurrency": 1, **summary}]}, {"bench": "list", "runs": [run]},
         {"bench": "boot", "runs": [boot]},
         {"bench": "startup", "ready_seconds_empty": 1.0, "ready_seconds_prepared": 1.0, "processes": [process]}],
        "Figures",
    )  # fmt: skip
    assert text.splitlines()[0] == "# Figures"
    assert len([line for line in text.splitlines() if line.startswith("| ")]) == 2 + 6
