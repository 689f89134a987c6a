"""Stopping without anybody noticing: what is being served is finished, and nobody is turned away who was let in."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from api_cell.edge.server import ApiServer
from cell_service.errors import Unavailable
from tests.edge.client import Client
from tests.edge.conftest import Gates, Serve

REQUEST = b"GET /v2.1/wait HTTP/1.1\r\nHost: x\r\nX-Auth-Token: a:b\r\n\r\n"


def answer(connection: socket.socket) -> bytes:
    """All that comes until the server hangs up."""
    found = b""
    while chunk := connection.recv(65536):
        found += chunk
    return found


def begun(server: ApiServer, draining: threading.Thread) -> None:
    """The drain has begun; a request that goes on keeps it waiting."""
    while not server.draining and draining.is_alive():
        draining.join(0.01)


def test_requests_in_flight_are_finished(serve: Serve, gates: Gates) -> None:
    server, _ = serve()
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as busy:
        busy.sendall(REQUEST)
        assert gates.entered.acquire(timeout=10)
        draining = threading.Thread(target=server.drain, args=(20,))
        draining.start()
        begun(server, draining)
        gates.open.set()
        found = answer(busy)
        draining.join()

    assert found.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in found.lower()


def test_an_open_connection_is_still_answered(serve: Serve, gates: Gates) -> None:
    server, client = serve()
    assert client.get("/things/7").status == 200
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as busy:
        busy.sendall(REQUEST)
        assert gates.entered.acquire(timeout=10)
        draining = threading.Thread(target=server.drain, args=(20,))
        draining.start()
        begun(server, draining)
        late = client.get("/things/7")
        gates.open.set()
        assert answer(busy).startswith(b"HTTP/1.1 200")
        draining.join()

    assert late.status == 200
    assert late.headers["Connection"] == "close"


def test_afterwards_nobody_listens(serve: Serve) -> None:
    server, _ = serve()
    port = server.port
    server.drain(5)
    server.drain(5)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_a_port_in_use_is_said_in_one_line(serve: Serve) -> None:
    first, _ = serve()
    second, _ = serve()
    with pytest.raises(Unavailable, match=f"Cannot listen on 127.0.0.1:{first.port}"):
        second.bind(first.port)


PROCESS = """
import sys
from pathlib import Path
from api_cell.app import ApiServer, Services, make_compute_app
from api_cell.config import ApiSection, ApiSettings
from api_cell.contract import SuperConductor
from cell_service.db.sql.engine import Database
from cell_service.rpc.contract import client
from cell_service.rpc.memory import Bus, MemoryTransport
from mapping_db.cells.registry import Cells
from tests.suites.clouds import cloud_in_memory

db = Database(f"sqlite:///{sys.argv[1]}")
settings = ApiSettings(api=ApiSection(auth_strategy="noauth2"))
cells = Cells(db, lambda url: MemoryTransport(Bus()))
cloud = cloud_in_memory(db, cells)
server = ApiServer(make_compute_app(cloud, Services(settings, client(SuperConductor, cloud.bus)), settings))
server.bind(int(sys.argv[2]), reuse_port=True)
print(server.port, flush=True)
server.serve()
print("drained", flush=True)
"""


class Worker:
    """One API process on a port that others may share."""

    def __init__(self, database: Path, port: int) -> None:
        command = [sys.executable, "-c", PROCESS, str(database), str(port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def stop(self) -> str:
        """Ask it to end. Answers what it said last."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.stdout is not None
        last = self.process.stdout.read()
        assert self.process.wait(20) == 0
        return last.strip()


def test_workers_share_a_port_and_one_may_go(tmp_path: Path) -> None:
    first = Worker(tmp_path / "db", 0)
    second = Worker(tmp_path / "db", first.port)
    stop, refused, served = threading.Event(), [], []

    def load() -> None:
        while not stop.is_set():
            client = Client(first.port)
            try:
                served.append(client.get("/", whole=True, token=None).status)
            except OSError as error:
                refused.append(error)
            finally:
                client.close()

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        while len(served) < 50:
            threads[0].join(0.01)
        assert first.stop() == "drained"
        before = len(served)
        while len(served) < before + 50 and len(refused) <= len(threads):
            threads[0].join(0.01)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        second.process.kill()
        second.process.wait()

    # The kernel resets a connection that it completes between the last accept and the close: one a client at most.
    assert [error for error in refused if not isinstance(error, ConnectionResetError)] == []
    assert len(refused) <= len(threads)
    assert set(served) == {200}
