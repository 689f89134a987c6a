"""Private MariaDB and PostgreSQL servers, one of each for a test session, and databases on them for single tests."""

from __future__ import annotations

import atexit
import contextlib
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from cell_service.db.sql.engine import Database, PoolLimits
from cell_service.errors import DatabaseUnavailable

POSTGRESQL = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), Path("/usr/bin"))
START_SECONDS = 60


class Server:
    """A database server in a directory of its own, on a port of its own."""

    def __init__(self, directory: Path, command: list[str], admin_url: str, user: str | None = None) -> None:
        self._command, self._admin_url, self._user = command, admin_url, user
        self._log = directory / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """The server answers afterwards."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, user=self._user, start_new_session=True
            )
        admin = self._admin()
        try:
            wait_until(lambda: self._answers(admin), f"{self._command[0]} does not start, see {self._log}")
        finally:
            admin.dispose()

    def create_database(self) -> str:
        """A new, empty database. Answers its URL."""
        name = f"t{uuid.uuid4().hex[:16]}"
        admin = self._admin()
        with admin.connect() as connection:  # opens no transaction
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        admin.dispose()
        return self._admin_url.replace("/ADMIN", f"/{name}")

    @property
    def port(self) -> int:
        return Database(self._admin_url.replace("/ADMIN", "/x")).url.port or 0

    def freeze(self) -> None:
        """The server, with the processes it made, keeps its port and its connections, and does nothing."""
        self._signal(self.pid, signal.SIGSTOP)
        for child in _children(self.pid):
            self._signal(child, signal.SIGSTOP)
        wait_until(lambda: all(map(is_stopped, [self.pid, *_children(self.pid)])), "the server does not freeze")

    def thaw(self) -> None:
        for process in [*_children(self.pid), self.pid]:
            self._signal(process, signal.SIGCONT)

    def kill(self) -> None:
        """As a power cut would."""
        assert self._process is not None
        for process in [self.pid, *_children(self.pid)]:
            self._signal(process, signal.SIGKILL)
        self._process.wait(timeout=START_SECONDS)

    def revive(self) -> None:
        """It answers afterwards, whatever was done to it."""
        if self._process is not None and self._process.poll() is None:
            self.thaw()
        else:
            self.start()

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.thaw()
            self._process.send_signal(signal.SIGINT if self._user else signal.SIGTERM)
            try:
                self._process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.kill()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def _signal(self, process: int, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)

    def _answers(self, admin: Database) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text(errors="replace")[-2000:]
        try:
            admin.ping()
        except DatabaseUnavailable:
            return False
        return True

    def _admin(self) -> Database:
        name = "postgres" if self._admin_url.startswith("postgres") else "mysql"
        return Database(self._admin_url.replace("/ADMIN", f"/{name}"), PoolLimits(size=1, connect_seconds=2))


@cache
def _mariadb_data() -> Path:
    """What a new MariaDB has, made once in the process."""
    directory = Path(tempfile.mkdtemp(prefix="polycell-db-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    data, own = directory / "data", directory / "tmp"
    own.mkdir()
    user = pwd.getpwuid(os.getuid()).pw_name
    made = subprocess.run(
        ["mariadb-install-db", "--no-defaults", f"--datadir={data}", f"--user={user}",
         "--auth-root-authentication-method=normal", "--skip-test-db"],
        env={**os.environ, "TMPDIR": str(own)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout
    return data


def mariadb_in(directory: Path) -> Server:
    """A new MariaDB in the directory; not started yet."""
    data, port, own = directory / "data", free_port(), directory / "tmp"
    subprocess.run(["cp", "-a", "--sparse=always", str(_mariadb_data()), str(data)], check=True)
    own.mkdir(exist_ok=True)  # a server that starts removes the temporary tables of all servers from a shared one
    user = pwd.getpwuid(os.getuid()).pw_name
    command = [
        "mariadbd", "--no-defaults", f"--datadir={data}", f"--user={user}", f"--port={port}",
        "--bind-address=127.0.0.1", f"--socket={directory / 's'}", f"--pid-file={directory / 'pid'}", f"--tmpdir={own}",
        "--skip-name-resolve", "--max-connections=200",
        "--innodb-buffer-pool-size=32M", "--innodb-flush-log-at-trx-commit=2", "--character-set-server=utf8mb4",
    ]  # fmt: skip
    return Server(directory, command, f"mysql+pymysql://root:@127.0.0.1:{port}/ADMIN")


def postgresql_in(directory: Path) -> Server:
    """A PostgreSQL, as a user other than root; not started yet."""
    data, port = directory / "data", free_port()
    user = None
    if os.getuid() == 0:
        user = "postgres" if _exists("postgres") else "nobody"
        account = pwd.getpwnam(user)
        os.chown(directory, account.pw_uid, account.pw_gid)
    subprocess.run(
        [str(POSTGRESQL / "initdb"), "-D", str(data), "-U", "root", "-A", "trust", "-E", "UTF8", "--locale=C",
         "--no-sync"],
        check=True, capture_output=True, user=user, cwd=directory,
    )  # fmt: skip
    command = [
        str(POSTGRESQL / "postgres"), "-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", str(directory), "-F",
        "-c", "max_connections=200", "-c", "shared_buffers=32MB", "-c", "deadlock_timeout=100ms",
    ]  # fmt: skip
    return Server(directory, command, f"postgresql+psycopg://root@127.0.0.1:{port}/ADMIN", user)


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Server]:
    """A MariaDB of this session, which tests share and must not freeze."""
    yield from _serving(mariadb_in)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A PostgreSQL of this session, which tests share and must not freeze."""
    yield from _serving(postgresql_in)


@pytest.fixture(scope="module")
def own_mariadb() -> Iterator[Server]:
    """A MariaDB for the tests of one module to freeze and kill; each begins with `revive`."""
    yield from _serving(mariadb_in)


@pytest.fixture(scope="module")
def own_postgresql() -> Iterator[Server]:
    """A PostgreSQL for the tests of one module to freeze and kill; each begins with `revive`."""
    yield from _serving(postgresql_in)


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("mariadb", marks=pytest.mark.real),
        pytest.param("postgresql", marks=pytest.mark.real),
    ]
)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, on each kind of server in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'test.db'}"
    server: Server = request.getfixturevalue(request.param)
    return server.create_database()


def wait_until(holds: Callable[[], bool], otherwise: str, seconds: float = START_SECONDS) -> None:
    """Ask again and again until it holds. Fails with the message after a very long time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if holds():
            return
        time.sleep(0.02)  # of what goes on in another process no event tells
    raise AssertionError(otherwise)


def free_port() -> int:
    """A port that no process has, among those that the kernel gives to no connection by itself."""
    return _free_ports(range(10000, 20000), 1)


def free_ports(count: int) -> int:
    """The first of that many ports in a row that no process has; others than those of `free_port`."""
    return _free_ports(range(20000, 32000), count)


def _free_ports(among: range, count: int) -> int:
    while True:
        first = random.SystemRandom().randrange(among.start, among.stop - count)
        if all(map(_is_free, range(first, first + count))):
            return first


def _is_free(port: int) -> bool:
    with socket.socket() as trial:
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _serving(make: Callable[[Path], Server]) -> Iterator[Server]:
    directory = Path(tempfile.mkdtemp(prefix="polycell-db-"))
    server = make(directory)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)


def _children(process: int) -> list[int]:
    listed = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii")
    return [int(number) for number in listed.split()]


def is_stopped(process: int) -> bool:
    """Whether none of its threads runs; also when it has ended."""
    for status in Path(f"/proc/{process}/task").glob("*/stat"):
        with contextlib.suppress(OSError):
            if status.read_text(encoding="utf-8").rpartition(")")[2].split()[0] not in "TZX":
                return False
    return True


def _exists(user: str) -> bool:
    return any(account.pw_name == user for account in pwd.getpwall())
