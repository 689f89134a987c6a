"""An installation of real processes: a MariaDB for each cell, RabbitMQ, memcached, and what `polycell up` starts."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import requests
from sqlalchemy import Connection

from cell_service.db.sql.engine import Database, PoolLimits
from tests.real.databases import Server, free_ports, mariadb_in
from tests.real.memcached import Memcached
from tests.real.rabbitmq import RabbitMq
from tools.up.plan import RESERVED_PORTS
from tools.up.record import is_ours

T = TypeVar("T")
log = logging.getLogger(__name__)

ROOT = Path(__file__).parents[2]
CELLS = ("cell1", "cell2")
MISSING_CELLS = "X-Polycell-Missing-Cells"
SETTLE_SECONDS = 90.0
SPAWN_SECONDS = 0.8


class Installation:
    """Two cells with hosts. Everything listens on this machine only, or in namespaces of its own, and ends with
    `close`."""

    def __init__(
        self,
        directory: Path,
        driver: str = "simulated",
        hosts_per_cell: int = 2,
        environment: Mapping[str, str] | None = None,
        own_brokers: Collection[str] = (),
    ) -> None:
        """`environment`: more for the services, for example options as oslo.config reads them from there. The cells of
        `own_brokers` have each a RabbitMQ of their own."""
        self.state, self.driver, self._hosts_per_cell = directory, driver, hosts_per_cell
        self._own_brokers = own_brokers
        self.environment = {**os.environ, **(environment or {})}
        self._stack = ExitStack()
        self.databases: dict[str, Server] = {}
        self.memcached = Memcached()
        try:
            self._start_servers()
            if driver == "simulated":
                self._slow_down()
            self.up()
        except BaseException:
            self.close()
            raise

    def _start_servers(self) -> None:
        log.info("starting servers")
        self.urls: dict[str, str] = {}
        for name in ("api", *CELLS):
            server = mariadb_in(Path(self._stack.enter_context(TemporaryDirectory(prefix="polycell-db-"))))
            self._stack.callback(server.stop)
            server.start()
            self.databases[name] = server
            self.urls[name] = server.create_database()
        log.info("databases started")
        self.urls["cell0"] = self.databases["api"].create_database()
        self._readers = {name: Database(url, PoolLimits(size=1, connect_seconds=5)) for name, url in self.urls.items()}
        for reader in self._readers.values():
            self._stack.callback(reader.dispose)
        self.rabbitmq = self._broker()
        self.brokers = {cell: self._broker() if cell in self._own_brokers else self.rabbitmq for cell in CELLS}
        self.queues = {name: self.brokers.get(name, self.rabbitmq).new_vhost() for name in ("api", *CELLS)}
        self.memcached.start()
        self._stack.callback(self.memcached.stop)
        self.port_base = free_ports(RESERVED_PORTS)

    def _broker(self) -> RabbitMq:
        made = RabbitMq(Path(self._stack.enter_context(TemporaryDirectory(prefix="polycell-mq-"))))
        self._stack.callback(made.stop)
        made.start()
        made.add_user()
        return made

    def _slow_down(self) -> None:
        """Guests take long enough to come and go that a kill strikes in the middle."""
        rules = {"spawn": {"hang_seconds": SPAWN_SECONDS}, "destroy": {"hang_seconds": SPAWN_SECONDS / 2}}
        for cell in CELLS:
            for number in range(1, self._hosts_per_cell + 1):
                host = self.state / "hosts" / cell / f"{cell}-host{number}"
                host.mkdir(parents=True)
                (host / "faults.json").write_text(json.dumps(rules), encoding="utf-8")

    # -- the launcher -----------------------------------------------------------------------------

    def up(self) -> None:
        """READY afterwards."""
        words = ["up", "--port-base", str(self.port_base), "--processes", "--detach", "--no-uplink"]
        words += ["--driver", self.driver, "--hosts-per-cell", str(self._hosts_per_cell)]
        words += ["--cells", str(len(CELLS)), "--workers", "1", "--cache", f"memcached://{self.memcached.address}"]
        for name, url in self.urls.items():
            words += ["--database", f"{name}={url}"]
        for name, url in self.queues.items():
            words += ["--transport", f"{name}={url}"]
        done = self._polycell(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        log.info("up: %s", done.stdout)
        self._user = User(self.document)
        self._user.prepare()

    def close(self) -> None:
        self._polycell("down")
        self._stack.close()

    def health(self) -> dict[str, Any]:
        """What `polycell status` says."""
        told: dict[str, Any] = json.loads(self._polycell("status", "-f", "json").stdout)
        return told

    def until_healthy(self) -> None:
        self.until(lambda: (told := self.health())["health"] == "healthy" or Unmet(told))

    @property
    def document(self) -> dict[str, Any]:
        read: dict[str, Any] = json.loads((self.state / "polycell.json").read_text(encoding="utf-8"))
        return read

    def kill(self, role: str, *, cell: str | None = None, host: str | None = None) -> None:
        """kill -9 of one service."""
        os.kill(self._process(role, cell, host), signal.SIGKILL)

    @contextmanager
    def frozen(self, role: str, *, cell: str | None = None, host: str | None = None) -> Iterator[None]:
        """One service does nothing, but lives."""
        victim = self._process(role, cell, host)
        os.kill(victim, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(victim, signal.SIGCONT)

    def _process(self, role: str, cell: str | None, host: str | None) -> int:
        (found,) = [
            each for each in self.document["processes"]
            if each["role"] == role and cell in (None, each["cell"]) and host in (None, each["host"])
        ]  # fmt: skip
        assert is_ours(found["pid"], found["started"])
        pid: int = found["pid"]
        return pid

    def kill_launcher(self) -> None:
        launcher = self.document["launcher"]
        assert is_ours(launcher["pid"], launcher["started"])
        os.kill(launcher["pid"], signal.SIGKILL)
        self.until(lambda: not is_ours(launcher["pid"], launcher["started"]))

    def kill_all(self) -> None:
        """kill -9 of the launcher, then of every service."""
        document = self.document
        for each in (document["launcher"], *document["processes"]):
            assert is_ours(each["pid"], each["started"])
            os.kill(each["pid"], signal.SIGKILL)
        self.until(lambda: not any(is_ours(each["pid"], each["started"]) for each in document["processes"]))

    def _polycell(self, command: str, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tools.up.main", command, "--state", str(self.state), *words],
            capture_output=True, text=True, cwd=ROOT, timeout=240, env=self.environment,
        )  # fmt: skip

    # -- what a user does -------------------------------------------------------------------------

    @property
    def user(self) -> User:
        """An administrator, logged in."""
        return self._user

    def reading(self, name: str) -> AbstractContextManager[Connection]:
        """A look into one of the databases."""
        return self._readers[name].connect()

    def until(self, holds: Callable[[], T | bool | Unmet], seconds: float = SETTLE_SECONDS) -> Any:
        """What `holds` answers once it is true; fails with the last Unmet when that takes too long."""
        end = time.monotonic() + seconds
        waiter = threading.Event()
        while not (answer := holds()):
            assert time.monotonic() < end, f"it never came to hold: {answer}"
            waiter.wait(0.1)
        return answer


class Unmet:
    """False, and why."""

    def __init__(self, why: object) -> None:
        self.why = why

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        return str(self.why)


class User:
    """One connection per thread is not kept: a killed API must not matter to the next request."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._endpoints = document["endpoints"]
        known = document["credentials"]["admin"]
        self.token, self.project_id = self._login(known)

    def ask(self, method: str, path: str, body: Any = None, *, version: str = "2.96",
            timeout: float = 30, service: str = "compute") -> requests.Response:  # fmt: skip
        headers = {"X-Auth-Token": self.token, "OpenStack-API-Version": f"compute {version}"}
        return requests.request(method, self._endpoints[service] + path, json=body, headers=headers, timeout=timeout)

    def post_server(self, name: str = "s", **fields: Any) -> requests.Response:
        server = {"name": name, "flavorRef": self.flavor, "imageRef": self.image, "networks": "auto", **fields}
        return self.ask("POST", "/servers", {"server": server})

    def servers(self, *, timeout: float = 30, version: str = "2.96", from_all: bool = True) -> list[dict[str, Any]]:
        """All servers; with `from_all` as a list shows them that all cells have answered: on a busy machine one may be
        late."""
        end = time.monotonic() + SETTLE_SECONDS
        while True:
            answer = self.ask("GET", "/servers/detail", timeout=timeout, version=version)
            assert answer.status_code == 200, answer.text
            if not from_all or MISSING_CELLS not in answer.headers:
                break
            assert time.monotonic() < end, f"no answer of {answer.headers[MISSING_CELLS]}"
            time.sleep(0.2)
        found: list[dict[str, Any]] = answer.json()["servers"]
        return found

    def ports(self) -> list[dict[str, Any]]:
        answer = self.ask("GET", "/v2.0/ports", service="network")
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["ports"]
        return found

    def prepare(self) -> None:
        """No limits, and a flavor and an image are chosen."""
        quota: Any = {"quota_set": {"instances": -1, "cores": -1, "ram": -1, "force": True}}
        answer = self.ask("PUT", f"/os-quota-sets/{self.project_id}", quota, version="2.1")
        assert answer.status_code == 200, answer.text
        self.flavor = self.ask("GET", "/flavors").json()["flavors"][0]["id"]
        self.image = self.ask("GET", "/v2/images", service="image").json()["images"][0]["id"]

    def _login(self, known: dict[str, str]) -> tuple[str, str]:
        domain = {"name": known["user_domain_name"]}
        password: Any = {"user": {"name": known["username"], "domain": domain, "password": known["password"]}}
        scope = {"project": {"name": known["project_name"], "domain": {"name": known["project_domain_name"]}}}
        auth: Any = {"identity": {"methods": ["password"], "password": password}, "scope": scope}
        answer = requests.post(f"{known['auth_url']}/auth/tokens", json={"auth": auth}, timeout=30)
        assert answer.status_code == 201, answer.text
        return answer.headers["X-Subject-Token"], answer.json()["token"]["project"]["id"]
