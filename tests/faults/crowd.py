"""Clients that do everything to their servers that moves them, and operators that empty and move hosts meanwhile."""

from __future__ import annotations

import logging
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import requests
from sqlalchemy import select

from bench.target import MANAGE_FILES
from mapping_db import schema as tables
from tests.faults.installation import CELLS, ROOT, Installation, Unmet
from tests.faults.turmoil import Turmoil

log = logging.getLogger(__name__)

SERVERS_EACH = 3
HOST = "OS-EXT-SRV-ATTR:host"
ANSWER_SECONDS = 10.0


class Crowd:
    """Some clients, each with servers of its own, and an operator. `accepted`: what they were promised, by name;
    `wrongs`: answers that no kill excuses."""

    def __init__(self, cloud: Installation, clients: int, hosts: list[str], seed: int) -> None:
        self._cloud, self._hosts, self._seed = cloud, hosts, seed
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self.accepted: Counter[str] = Counter()
        self.wrongs: list[str] = []
        self._threads = [
            threading.Thread(target=self._run, args=(partial(self._client, number),)) for number in range(clients)
        ]
        self._threads += [
            threading.Thread(target=self._run, args=(partial(self._guarded, work),))
            for work in (self._kills, self._carries)
        ]
        self._big = self._flavor()

    def start(self) -> None:
        for each in self._threads:
            each.start()

    def stop(self) -> None:
        """Nobody asks for anything more."""
        self._ending.set()
        for each in self._threads:
            each.join()

    # -- clients ----------------------------------------------------------------------------------

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            log.exception("a client has ended")
            self.wrongs.append(f"a client has ended: {error!r}")

    def _client(self, number: int) -> None:
        chance = random.Random(self._seed * 100 + number)
        mine: list[str] = []
        given_up: set[str] = set()
        while not self._ending.wait(chance.uniform(0.1, 0.4)):
            try:
                if len(mine) < SERVERS_EACH:
                    answer = self._cloud.user.post_server(f"c{number}")
                    if answer.status_code == 202:
                        mine.append(answer.json()["server"]["id"])
                        self._count("create")
                else:
                    self._change(chance, chance.choice(mine), mine, given_up)
            except requests.RequestException:
                continue

    def _change(self, chance: random.Random, uuid: str, mine: list[str], given_up: set[str]) -> None:
        """`given_up`: those that were asked to be deleted. Nobody may have answered, and yet it may be done."""
        answer = self._ask("GET", f"/servers/{uuid}")
        if answer.status_code == 404:
            mine.remove(uuid)
            if uuid not in given_up:
                self.wrongs.append(f"{uuid} is not found")
        if answer.status_code != 200:
            return
        server = answer.json()["server"]
        status = server["status"]
        if status == "UNKNOWN":
            return  # its cell is silent
        if chance.random() < 0.04 or status == "ERROR":
            given_up.add(uuid)
            if self._ask("DELETE", f"/servers/{uuid}").status_code == 204:
                mine.remove(uuid)
                self._count("delete")
            return
        if server.get("OS-EXT-STS:task_state") and chance.random() < 0.95:
            return  # now and then somebody asks all the same
        resize = {"resize": {"flavorRef": self._other_flavor(server)}}
        away: dict[str, Any] = {"migrate": {"host": self._another(chance, server)}}
        anywhere: dict[str, Any] = {"migrate": None}
        live = {"os-migrateLive": {"host": chance.choice([None, self._another(chance, server)]),
                                   "block_migration": "auto"}}  # fmt: skip
        choices: dict[str, list[dict[str, Any]]] = {
            "ACTIVE": [resize, away, anywhere, live, live, live, {"os-stop": None}, {"reboot": {"type": "HARD"}}],
            "SHUTOFF": [{"os-start": None}, {"os-start": None}, away, resize],
            "VERIFY_RESIZE": [{"confirmResize": None}, {"revertResize": None}],
        }
        if status in choices:
            self._act(uuid, chance.choice(choices[status]))

    def _act(self, uuid: str, body: dict[str, Any]) -> bool:
        answer = self._ask("POST", f"/servers/{uuid}/action", body)
        (name,) = body
        if answer.ok:
            self._count(name)
        elif answer.status_code in (400, 403, 500):
            log.info("%s refused: %s", name, answer.text)
        return answer.ok

    def _another(self, chance: random.Random, server: dict[str, Any]) -> str:
        return chance.choice([host for host in self._hosts if host != server[HOST]])

    def _other_flavor(self, server: dict[str, Any]) -> str:
        return self._cloud.user.flavor if server["flavor"]["original_name"] == "bigger" else self._big

    def _flavor(self) -> str:
        body = {"flavor": {"id": "bigger", "name": "bigger", "vcpus": 2, "ram": 256, "disk": 2}}
        answer = self._ask("POST", "/flavors", body)
        assert answer.status_code in (200, 409), answer.text
        return "bigger"

    def _ask(self, method: str, path: str, body: Any = None) -> requests.Response:
        return self._cloud.user.ask(method, path, body, timeout=ANSWER_SECONDS)

    def _count(self, name: str) -> None:
        with self._lock:
            self.accepted[name] += 1

    # -- operators --------------------------------------------------------------------------------

    def _guarded(self, work: Callable[[random.Random], None]) -> None:
        chance = random.Random(self._seed)
        while not self._ending.wait(chance.uniform(3, 8)):
            try:
                work(chance)
            except requests.RequestException:
                continue

    def _kills(self, chance: random.Random) -> None:
        """A host is taken for dead, though it may live; its servers leave it, and it comes back."""
        host = chance.choice(self._hosts)
        if chance.random() < 0.5:
            try:
                self._cloud.kill("compute", host=host)
            except (AssertionError, ValueError):
                log.info("the agent of %s is dead already", host)
        if not force_down(self._cloud, host, True):
            return
        answer = self._ask("GET", f"/servers/detail?host={host}")
        servers = answer.json()["servers"] if answer.ok else []
        log.info("%s is down, %d servers leave it", host, len(servers))
        for server in servers[:6]:
            wanted: dict[str, Any] = {"host": self._another(chance, server)} if chance.random() < 0.4 else {}
            self._act(server["id"], {"evacuate": wanted})
        self._ending.wait(chance.uniform(1, 5))
        force_down(self._cloud, host, False)

    def _carries(self, chance: random.Random) -> None:
        """A host goes to another cell."""
        if chance.random() < 0.5:
            return
        host, target = chance.choice([each for each in self._hosts if each.endswith("3")]), chance.choice(CELLS)
        done = move_host(self._cloud, host, target, 15.0)
        ended = {0: "done", 2: "refused", 3: "unfinished"}
        self._count(f"move_host {ended.get(done.returncode, 'not possible')}")


def move_host(cloud: Installation, host: str, target: str, seconds: float) -> subprocess.CompletedProcess[str]:
    files = [word for name in MANAGE_FILES for word in ("--config-file", str(cloud.state / name))]
    words = ["cell_v2", "move_host", "--host", host, "--to", target, "--wait", str(seconds)]
    done = subprocess.run(
        [sys.executable, "-m", "tools.manage.main", *files, *words],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=200, check=False,
    )  # fmt: skip
    log.info("%s to %s: %d %s", host, target, done.returncode, done.stdout.strip()[-300:])
    return done


def force_down(cloud: Installation, host: str, down: bool) -> bool:
    body = {"host": host, "binary": "nova-compute", "forced_down": down}
    try:
        return cloud.user.ask("PUT", "/os-services/force-down", body, version="2.11", timeout=ANSWER_SECONDS).ok
    except requests.RequestException:
        return False


def calm(cloud: Installation, turmoil: Turmoil, hosts: list[str]) -> None:
    """Everything is up again, no host is taken for dead, and hosts on their way have arrived."""
    turmoil.mend(everything=True)
    cloud.until(lambda: all(force_down(cloud, host, False) for host in hosts) or Unmet("a host can't be forced up"))
    on_their_way = select(tables.host_moves.c.host, tables.cell_mappings.c.name).join(
        tables.cell_mappings, tables.cell_mappings.c.id == tables.host_moves.c.target_cell
    )
    with cloud.reading("api") as tx:
        left = tx.execute(on_their_way).all()
    for host, target in left:
        done = move_host(cloud, host, target, 60.0)
        assert done.returncode == 0, done.stdout
    cloud.until_healthy()
