"""A database behind a URL: SQLite, MariaDB/MySQL (pymysql) or PostgreSQL (psycopg).

Transactions are functions: `run(work)` begins, calls `work(tx)`, commits, and after a deadlock or serialisation
failure runs the whole function again. READ COMMITTED on the servers; on SQLite writers queue up at BEGIN IMMEDIATE.
`connect` is for reading: no transaction is opened, so a read costs one round trip; so does one statement that writes,
with `run_alone`.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, InvalidatePoolError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool

from cell_service.db.sql import drivers, failures
from cell_service.db.sql.compiled import STATEMENTS
from cell_service.errors import DatabaseUnavailable, Invalid, SchemaMissing
from cell_service.logs import masked

if TYPE_CHECKING:
    from cell_service.db.sealing import Sealer

T = TypeVar("T")

ATTEMPTS = 8
_DEADLOCKS = {1205, 1213, "40001", "40P01", "55P03"}
_NOT_SYNCED = {1146, 1054, "42P01", "42703"}
"""No such table, no such column."""
_NOT_SYNCED_SQLITE = ("no such table", "no such column", "has no column named")
_OUT_OF_RANGE = {1264, "22003"}
_TOO_LARGE = "A number is larger than can be stored."
_ISOLATION = r"read\ committed"
_DRIVERS = {"mysql": "mysql+pymysql", "mariadb": "mysql+pymysql", "postgresql": "postgresql+psycopg",
            "postgres": "postgresql+psycopg"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """How many connections a process may have to one database, and how long (seconds) anything may block."""

    size: int = 5
    overflow: int = 5
    wait_seconds: float = 5.0
    connect_seconds: float = 1.0
    read_seconds: float = 60.0
    recycle_seconds: int = 3600


class Database:
    """One database. Thread-safe; connects at first use."""

    def __init__(self, url: str, limits: PoolLimits | None = None, secret_keys: Sequence[str] = ()) -> None:
        """`secret_keys`: the operator's, which wrap the database's data key."""
        self.url = _normal(url)
        self._secret_keys = tuple(secret_keys)
        self._sealer: Sealer | None = None
        self._opened = drivers.OpenConnections()
        self.engine = _engine(self.url, limits or PoolLimits(), self._opened)

    @property
    def shown_url(self) -> str:
        """The URL without its password, for people to read."""
        return self.url.render_as_string(hide_password=True)

    @property
    def dialect(self) -> str:
        """sqlite, mysql (also for MariaDB) or postgresql."""
        return "mysql" if self.engine.dialect.name == "mariadb" else self.engine.dialect.name

    @contextlib.contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection to read with; every statement sees what is committed by then. Raises DatabaseUnavailable."""
        with translated(self.shown_url), self.engine.connect() as connection:
            connection.info["opening"] = None
            try:
                yield connection
            finally:
                if not connection.invalidated:
                    connection.info.pop("opening", None)

    @contextlib.contextmanager
    def begin(self) -> Iterator[Connection]:
        """Run the block in one transaction, committed at the end, rolled back on any error. It is not retried: see
        `run`."""
        with translated(self.shown_url), self.engine.connect() as connection:
            with connection.begin():
                yield connection

    def run(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction; run all of it again after a deadlock, at most ATTEMPTS times.

        `work` must have no effect outside the database. Raises DatabaseUnavailable.
        """
        return self._tried(self.begin, work)

    def run_alone(self, work: Callable[[Connection], T]) -> T:
        """As `run`, for work of one statement, which is a transaction by itself: one round trip."""
        return self._tried(self.connect, work)

    def _tried(self, entered: Callable[[], AbstractContextManager[Connection]], work: Callable[[Connection], T]) -> T:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with entered() as tx:
                    return work(tx)
            except DatabaseUnavailable as error:
                if attempt == ATTEMPTS or not is_deadlock(error.__cause__):
                    raise
                time.sleep(random.uniform(0.002, 0.02) * attempt)
        raise AssertionError("unreachable")

    def sealer(self) -> Sealer:
        """Seals and opens the secrets of this database. The first call runs a transaction of its own: call it before
        another one begins. Raises DatabaseUnavailable, SecretsUnreadable, Invalid (a key that is none)."""
        if self._sealer is None:
            from cell_service.db.sealing import Sealer, WrappingKeys, data_key  # it loads a cipher

            keys = WrappingKeys(self._secret_keys)
            self._sealer = Sealer(self.run(lambda tx: data_key(tx, keys)))
        return self._sealer

    def sealer_in(self, tx: Connection) -> Sealer:
        """As `sealer`, for a caller that is in a transaction of this database."""
        from cell_service.db.sealing import Sealer, WrappingKeys, data_key

        return self._sealer or Sealer(data_key(tx, WrappingKeys(self._secret_keys)))

    def ping(self) -> None:
        """Raises DatabaseUnavailable unless the database answers."""
        with self.connect() as connection:
            connection.execute(text("SELECT 1"))

    def dispose(self) -> None:
        """Close idle connections; those in use are closed when they return to the pool."""
        self.engine.dispose()

    def cut(self) -> None:
        """Cut all connections off, those in use too: a thread that waits on one gets DatabaseUnavailable at once."""
        self._opened.cut_all()


def is_deadlock(error: BaseException | None) -> bool:
    """Whether the database has rolled a transaction back in favour of another, so that it should be run again."""
    if not isinstance(error, DBAPIError):
        return False
    return failures.code_of(error) in _DEADLOCKS or "database is locked" in str(error.orig)


@contextlib.contextmanager
def translated(shown_url: str) -> Iterator[None]:
    """Raise DatabaseUnavailable, in plain words, for what the driver raises when the server is gone, gave up or
    refuses; SchemaMissing when a table or a column is missing; Invalid for a number that no column takes."""
    try:
        yield
    except PoolTimeout as error:
        busy = f"all connections of this process are in use ({masked(shown_url)}); try again"
        raise DatabaseUnavailable(reason=busy) from error
    except DBAPIError as error:
        shown = masked(shown_url)
        if _lacks_schema(error):
            table = failures.missing_table(error)
            raise SchemaMissing(reason=failures.schema_reason(error, table, shown), table=table) from error
        if isinstance(error, OperationalError) or error.connection_invalidated or is_deadlock(error):
            raise DatabaseUnavailable(reason=failures.reason_of(error, shown)) from error
        if failures.code_of(error) in _OUT_OF_RANGE:
            raise Invalid(reason=_TOO_LARGE) from error
        if failures.is_refusal(error):
            raise DatabaseUnavailable(reason=failures.reason_of(error, shown)) from error
        raise
    except OverflowError as error:
        if "SQLite" not in str(error):
            raise
        raise Invalid(reason=_TOO_LARGE) from error


def _lacks_schema(error: DBAPIError) -> bool:
    return failures.code_of(error) in _NOT_SYNCED or any(text in str(error.orig) for text in _NOT_SYNCED_SQLITE)


def _normal(url: str) -> URL:
    """The URL with the driver that we use for its kind of database."""
    parsed = make_url(url)
    return parsed.set(drivername=_DRIVERS.get(parsed.drivername, parsed.drivername))


def _engine(url: URL, limits: PoolLimits, opened: drivers.OpenConnections) -> Engine:
    backend = url.get_backend_name()
    options: dict[str, Any] = {}
    if backend == "sqlite":
        options |= {"connect_args": {"check_same_thread": False, "timeout": min(30.0, limits.read_seconds)}}
    elif backend == "postgresql":
        milliseconds = round(limits.read_seconds * 1000)
        settings = {"timezone": "UTC", "statement_timeout": milliseconds, "default_transaction_isolation": _ISOLATION}
        options |= {
            "connect_args": {
                "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
                "tcp_user_timeout": milliseconds,
            },
        }
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=limits.size,
        max_overflow=limits.overflow,
        pool_timeout=limits.wait_seconds,
        pool_recycle=limits.recycle_seconds,
        pool_use_lifo=True,
        execution_options={"compiled_cache": STATEMENTS},
        **options,
    )
    _connect_as_limited(engine, backend, limits, opened)
    _begin_in_mode(engine, "BEGIN IMMEDIATE" if backend == "sqlite" else "BEGIN")
    return engine


def _connect_as_limited(engine: Engine, backend: str, limits: PoolLimits, opened: drivers.OpenConnections) -> None:
    """Make new connections in bounded time, and drop pooled ones that the server has closed."""

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Any, _record: Any, arguments: Any, options: Any) -> Any:
        if backend in ("mysql", "mariadb"):
            return drivers.connect_mysql(options, limits.connect_seconds, limits.read_seconds, opened)
        if backend == "postgresql":
            driver = dialect.loaded_dbapi
            return drivers.connect_postgresql(
                lambda: driver.connect(*arguments, **options), limits.connect_seconds, opened
            )
        return drivers.connect_sqlite(arguments, options)

    @event.listens_for(engine, "checkout")
    def given_out(raw: object, _record: object, _proxy: object) -> None:
        if drivers.is_dead(raw):
            raise InvalidatePoolError


def _begin_in_mode(engine: Engine, opening: str) -> None:
    """Drivers never begin by themselves; transactions begin with `opening`, and reading connections have none."""

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        statement = connection.info.get("opening", opening)
        if statement:
            connection.exec_driver_sql(statement)
