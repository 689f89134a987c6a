"""What a boot and a delete cost: statements, transactions, messages and processor time, each by the role that has it.

    python -m bench.boot_cost [--database mariadb] [--servers 100] [--clients 8] [--texts] [--out FILE]

One cell with two hosts, all roles in this process, on SQLite or one private MariaDB, the queue in memory. Networks and
images are simulated. Figures are for each server; what the roles do anyway is measured first and subtracted.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sqlalchemy import Connection, Engine, event

from bench.counting import ThreadTimes, processor_seconds
from cell_service.db.sql.engine import Database
from cell_service.rpc.transport import Delivery, Handler, Subscription, Transport
from tests.federation.cloud import Federation
from tests.real.databases import mariadb_in

IDLE_SECONDS = 4.0
ROLES = (
    ("super-conductor", "super-conductor"), ("scheduler", "super-conductor"), ("move", "super-conductor"),
    ("conductor", "conductor"), ("control", "compute"), ("build", "compute"), ("verb", "compute"),
    ("timers", "compute"), ("placement", "placement"), ("compute", "api"), ("scatter", "api"),
    ("bench-client", "bench"), ("MainThread", "bench"),
)  # fmt: skip
"""By how a thread's name begins. Threads of the queue take the role of what they serve."""
TOPICS = (("compute.", "compute"), ("super", "super-conductor"), ("conductor", "conductor"))


class Ledger:
    """What was done since it was opened; threads of the queue say which role they serve while they do."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._serving = threading.local()
        self.statements: Counter[str] = Counter()
        self.transactions: Counter[str] = Counter()
        self.texts: Counter[str] = Counter()
        self.messages: Counter[str] = Counter()
        self.served_seconds: defaultdict[str, float] = defaultdict(float)
        self.threads = ThreadTimes()

    def role(self) -> str:
        return getattr(self._serving, "role", None) or role_of(threading.current_thread().name)

    def sent(self, _connection: Connection, _cursor: Any, text: str, *_: Any) -> None:
        role = self.role()
        with self._lock:
            self.statements[role] += 1
            self.texts[f"{role}: {_short(text)}"] += 1

    def ended(self, _connection: Connection) -> None:
        with self._lock:
            self.transactions[self.role()] += 1

    def serve(self, topic: str, handler: Handler) -> Handler:
        role = next((role for start, role in TOPICS if topic.startswith(start)), topic)

        def counted(delivery: Delivery) -> bytes | None:
            self._serving.role = role
            began = time.thread_time()
            try:
                return handler(delivery)
            finally:
                self._serving.role = None
                took = time.thread_time() - began
                with self._lock:
                    self.messages[f"{role}: {json.loads(delivery.body)['method']}"] += 1
                    self.served_seconds[role] += took

        return counted

    def read(self) -> dict[str, Counter[str]]:
        cpu: Counter[str] = Counter()
        for role, seconds in self.served_seconds.items():
            cpu[role] += seconds * 1000  # type: ignore[assignment]
        for name, seconds in self.threads.read().items():
            if name.startswith("bus"):
                continue  # counted where it serves
            cpu[role_of(name)] += seconds * 1000  # type: ignore[assignment]
        with self._lock:
            return {
                "statements": self.statements.copy(), "transactions": self.transactions.copy(),
                "messages": self.messages.copy(), "cpu_ms": cpu, "texts": self.texts.copy(),
            }  # fmt: skip


class _Counted:
    """A connection to a queue whose handlers are counted."""

    def __init__(self, inner: Transport, ledger: Ledger) -> None:
        self._inner, self._ledger = inner, ledger
        self.cast, self.call, self.ping, self.close = inner.cast, inner.call, inner.ping, inner.close

    def serve(self, topic: str, handler: Handler, *, threads: int = 4) -> Subscription:
        return self._inner.serve(topic, self._ledger.serve(topic, handler), threads=threads)


class _Cloud(Federation):
    def __init__(self, ledger: Ledger, directory: Path, **parts: Any) -> None:
        self._ledger = ledger
        super().__init__(directory, **parts)
        self.watched = {name: Database(self._database(name)) for name in ("global", "cell1")}

    def close(self) -> None:
        super().close()
        for each in self.watched.values():
            each.dispose()

    def transport(self, name: str) -> Transport:
        return _Counted(super().transport(name), self._ledger)

    def opened(self, url: str) -> Transport:
        return _Counted(super().opened(url), self._ledger)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="What a boot and a delete cost.")
    parser.add_argument("--database", nargs="+", choices=["sqlite", "mariadb"], default=["sqlite", "mariadb"])
    parser.add_argument("--servers", type=int, default=100)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--texts", action="store_true", help="also how often each statement was sent")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(argv)
    runs = []
    for database in args.database:
        ledger = Ledger()
        with _databases(database) as (directory, url, server), _watched(ledger):
            cloud = _Cloud(ledger, directory, cells=1, database=url, boot_seconds=0.0, vcpus=10**5, memory_mib=10**8,
                           disk_gib=10**7)  # fmt: skip
            try:
                runs.append({"database": database, **_measured(cloud, ledger, server, args)})
            finally:
                cloud.close()
    text = json.dumps({"bench": "boot_cost", "runs": runs}, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")
    return 0


def role_of(thread: str) -> str:
    return next((role for start, role in ROLES if thread.startswith(start)), "other")


def _measured(cloud: _Cloud, ledger: Ledger, server: Callable[[], float], args: Any) -> dict[str, Any]:
    with ThreadPoolExecutor(args.clients, thread_name_prefix="bench-client") as clients:
        _delete(cloud, clients, _boot(cloud, clients, args.clients))  # caches are full, statements compiled
        took = Taking(ledger, server)
        threading.Event().wait(IDLE_SECONDS)
        idle = took.end()
        found: dict[str, Any] = {}
        for crowd, count, at_once in (("alone", 10, 1), ("burst", args.servers, args.clients)):
            with ThreadPoolExecutor(at_once, thread_name_prefix="bench-client") as some:
                took = Taking(ledger, server)
                if at_once == 1:
                    uuids = [each for _ in range(count) for each in _boot(cloud, some, 1)]
                else:
                    uuids = _boot(cloud, some, count)
                booted = took.end()
                took = Taking(ledger, server)
                _delete(cloud, some, uuids)
                deleted = took.end()
            found[f"boot, {crowd}"] = booted.less(idle).each(count, texts=args.texts)
            found[f"delete, {crowd}"] = deleted.less(idle).each(count, texts=args.texts)
    return found


class Taking:
    """From now until `end`."""

    def __init__(self, ledger: Ledger, server: Callable[[], float]) -> None:
        self._ledger, self._server = ledger, server
        self._before, self._server_before, self._began = ledger.read(), server(), time.monotonic()

    def end(self) -> Spent:
        after = self._ledger.read()
        spent: dict[str, dict[str, float]] = {
            what: {key: value - self._before[what][key] for key, value in counted.items()}
            for what, counted in after.items()
        }
        spent["cpu_ms"]["database server"] = (self._server() - self._server_before) * 1000
        return Spent(time.monotonic() - self._began, spent)


class Spent:
    def __init__(self, seconds: float, figures: dict[str, dict[str, float]]) -> None:
        self.seconds, self.figures = seconds, figures

    def less(self, idle: Spent) -> Spent:
        """Without what is done anyway in so much time."""
        share = self.seconds / idle.seconds
        return Spent(self.seconds, {
            what: {key: value - share * idle.figures[what].get(key, 0) for key, value in counted.items()}
            for what, counted in self.figures.items()
        })  # fmt: skip

    def each(self, count: int, *, texts: bool) -> dict[str, Any]:
        found: dict[str, Any] = {"seconds": round(self.seconds / count, 4)}
        for what, counted in self.figures.items():
            if what == "texts" and not texts:
                continue
            shown = {key: round(value / count, 2) for key, value in counted.items()}
            found[what] = dict(sorted(((k, v) for k, v in shown.items() if v >= 0.05), key=lambda item: -item[1]))
            if what in ("statements", "transactions", "messages", "cpu_ms"):
                found[f"all {what}"] = round(sum(v for k, v in shown.items() if k != "bench"), 2)
        return found


def _boot(cloud: _Cloud, clients: ThreadPoolExecutor, count: int) -> list[str]:
    """That many servers, each requested alone; all of them ACTIVE at the end."""

    def post(_number: int) -> str:
        answer = cloud.post_server(_client(cloud))
        if answer.status != 202:
            raise RuntimeError(f"{answer.status}: {answer.raw!r}")
        return str(answer.json["server"]["id"])

    uuids = list(clients.map(post, range(count)))
    cloud.until(lambda: _in_cell(cloud, "vm_state = 'active' AND task_state IS NULL", uuids) == count, seconds=120)
    return uuids


def _delete(cloud: _Cloud, clients: ThreadPoolExecutor, uuids: list[str]) -> None:
    def delete(uuid: str) -> None:
        answer = _client(cloud).delete(f"/servers/{uuid}")
        if answer.status != 204:
            raise RuntimeError(f"{answer.status}: {answer.raw!r}")

    list(clients.map(delete, uuids))
    cloud.until(lambda: _in_cell(cloud, "deleted_at IS NOT NULL", uuids) == len(uuids), seconds=120)
    cloud.until(lambda: not _to_conclude(cloud), seconds=120)


_own = threading.local()


def _client(cloud: _Cloud) -> Any:
    if getattr(_own, "cloud", None) is not cloud:
        _own.cloud, _own.client = cloud, cloud.user("bench", "bench-project")
    return _own.client


def _in_cell(cloud: _Cloud, condition: str, uuids: list[str]) -> int:
    listed = ", ".join(f"'{uuid}'" for uuid in uuids)
    with cloud.watched["cell1"].connect() as tx:
        counted = tx.exec_driver_sql(f"SELECT count(*) FROM instances WHERE uuid IN ({listed}) AND {condition}")  # noqa: S608  our own words
        return int(counted.scalar_one())


def _to_conclude(cloud: _Cloud) -> int:
    with cloud.watched["global"].connect() as tx:
        asked = "SELECT count(*) FROM instance_mappings WHERE queued_for_delete AND NOT gone"
        return int(tx.exec_driver_sql(asked).scalar_one())


def _short(text: str) -> str:
    """A statement without its lists."""
    text = re.sub(r"sa_savepoint_\d+", "…", re.sub(r"\s+", " ", text))
    text = re.sub(r"SELECT .*? FROM", "SELECT … FROM", text)
    text = re.sub(r"\([^()]*\) VALUES.*", "…", text)
    text = re.sub(r"IN \([^()]*\)", "IN (…)", text)
    text = re.sub(r" SET .* WHERE", lambda found: " SET " + ", ".join(re.findall(r"(\w+)=", found[0])) + " WHERE", text)
    return text[:260]


@contextmanager
def _watched(ledger: Ledger) -> Iterator[None]:
    event.listen(Engine, "before_cursor_execute", ledger.sent)
    event.listen(Engine, "commit", ledger.ended)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", ledger.sent)
        event.remove(Engine, "commit", ledger.ended)


@contextmanager
def _databases(kind: str) -> Iterator[tuple[Path, Callable[[str], str] | None, Callable[[], float]]]:
    """A directory, each part's database (None: SQLite there), and what their server has taken of the processor."""
    with tempfile.TemporaryDirectory(prefix="boot-cost") as directory:
        if kind == "sqlite":
            yield Path(directory), None, lambda: 0.0
            return
        with tempfile.TemporaryDirectory(prefix="db") as data:
            server = mariadb_in(Path(data))
            server.start()
            try:
                urls = {name: server.create_database() for name in ("global", "cell0", "cell1")}
                yield Path(directory), urls.__getitem__, lambda: processor_seconds(server.pid)
            finally:
                server.stop()


if __name__ == "__main__":
    sys.exit(main())
