"""The console proxy: bytes through one serial console, and its memory with many of them open.

python -m bench.consoles [--consoles 200] [--mib 64]

The proxy is a process of its own on a cell's database (SQLite). Guests and users are of this process, so its processor
time is in the rates.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tornado.websocket import WebSocketClientConnection, websocket_connect

from bench import target
from bench.startup import memory
from cell_service.db import console_tokens, instances, upgrades
from cell_service.db.sql.engine import Database
from cell_service.model.console import ConsolePlace, ConsoleToken
from cell_service.model.instance import Flavor, Instance
from cell_service.model.lifecycle import VmState

MIB = 2**20
CHUNK = bytes(16 << 10)
START_SECONDS = 60.0
TALK_BYTES = 64 << 10
"""What each of many consoles passes on in each direction before the memory is read."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure the console proxy.")
    parser.add_argument("--consoles", type=int, default=200)
    parser.add_argument("--mib", type=int, default=64)
    parser.add_argument("--out", metavar="FILE", help="write the JSON here too")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="polycell-bench-") as directory:
        result = asyncio.run(_measured(Path(directory), args.consoles, args.mib))
    target.emit(result, args.out)
    return 0


async def _measured(directory: Path, consoles: int, mib: int) -> dict[str, Any]:
    guests = [await asyncio.start_server(talk, "127.0.0.1", 0) for talk in (_flood, _swallow, _echo)]
    ports = [server.sockets[0].getsockname()[1] for server in guests]
    secrets = _tokens(directory, (ports[0], ports[1], *(consoles * [ports[2]])))
    with _proxy(directory) as (pid, port):
        before = memory(pid)
        down = await _down(await _opened(port, secrets[0]), mib)
        up = await _up(await _opened(port, secrets[1]), mib)
        opened = [await _opened(port, secret) for secret in secrets[2:]]
        await asyncio.gather(*(_talk(each) for each in opened))
        many = memory(pid)
        for each in opened:
            each.close()
    for server in guests:
        server.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.wait(others, timeout=START_SECONDS)  # the guests, whose connections the proxy has closed
    return {"bench": "consoles", "mib": mib, "to_user_mb_s": round(down, 1), "to_guest_mb_s": round(up, 1),
            "consoles": consoles, "memory_before": before, "memory_open": many}  # fmt: skip


async def _down(console: WebSocketClientConnection, mib: int) -> float:
    """MB/s from the guest to the user."""
    begun, got = time.perf_counter(), 0
    while got < mib * MIB:
        message = await console.read_message()
        assert isinstance(message, bytes)
        got += len(message)
    rate = got / (time.perf_counter() - begun) / 1e6
    console.close()
    return rate


async def _up(console: WebSocketClientConnection, mib: int) -> float:
    """MB/s from the user to the guest, which answers when it has all."""
    begun, length = time.perf_counter(), mib * MIB
    await console.write_message(length.to_bytes(8, "big"), binary=True)
    for _ in range(length // len(CHUNK)):
        await console.write_message(CHUNK, binary=True)
    assert await console.read_message() is not None
    rate = length / (time.perf_counter() - begun) / 1e6
    console.close()
    return rate


async def _talk(console: WebSocketClientConnection) -> None:
    await console.write_message(bytes(TALK_BYTES), binary=True)
    got = 0
    while got < TALK_BYTES:
        message = await console.read_message()
        assert isinstance(message, bytes)
        got += len(message)


async def _opened(port: int, secret: str) -> WebSocketClientConnection:
    return await websocket_connect(f"ws://127.0.0.1:{port}/?token={secret}", subprotocols=["binary"])


async def _flood(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A guest that prints without end."""
    try:
        while True:
            writer.write(CHUNK)
            await writer.drain()
    except ConnectionError:
        writer.close()


async def _swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A guest that reads as much as it is sent word of, and answers."""
    left = int.from_bytes(await reader.readexactly(8), "big")
    while left > 0:
        left -= len(await reader.read(len(CHUNK)))
    writer.write(b"done")
    await writer.drain()


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while said := await reader.read(len(CHUNK)):
        writer.write(said)
        await writer.drain()
    writer.close()


def _tokens(directory: Path, ports: Sequence[int]) -> list[str]:
    """A server for each port, and a token of its serial console."""
    now, secrets = datetime.now(UTC), []
    db = Database(f"sqlite:///{directory}/cell.sqlite")
    upgrades.sync(db)
    flavor = Flavor(flavorid="1", name="small", vcpus=1, memory_mib=128, root_gib=1)
    with db.begin() as tx:
        for port in ports:
            made = Instance(
                uuid=str(uuid4()), project_id="p", user_id="u", display_name="guest", flavor=flavor, created_at=now,
                host="h1", vm_state=VmState.ACTIVE,
            )  # fmt: skip
            instances.insert_new(tx, made)
            secrets.append(str(uuid4()))
            place = ConsolePlace("127.0.0.1", port, "ws://127.0.0.1/")
            token = ConsoleToken(made.uuid, "serial", "h1", place, now + timedelta(hours=1))
            console_tokens.add(tx, secrets[-1], token, now)
    db.dispose()
    return secrets


@contextmanager
def _proxy(directory: Path) -> Iterator[tuple[int, int]]:
    """Its process and port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    file = directory / "nova.conf"
    file.write_text(
        f"[DEFAULT]\nstate_path = {directory}\n[database]\nconnection = sqlite:///{directory}/cell.sqlite\n"
    )
    command = [sys.executable, "-m", "tools.up.main", "service", "console", "--config-file", str(file)]
    with subprocess.Popen([*command, "--port", str(port)], stderr=subprocess.DEVNULL) as process:
        try:
            _await(port, process)
            yield process.pid, port
        finally:
            process.terminate()
            process.wait(START_SECONDS)


def _await(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > until or process.poll() is not None:
                raise target.Unusable("the proxy does not start") from None
            time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
