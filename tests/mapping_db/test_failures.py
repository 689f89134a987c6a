"""Whatever a server refuses, its operator reads one plain sentence with the URL, what is wrong and what to do."""

from __future__ import annotations

import ast
import re
import socket
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import URL, make_url, text
from sqlalchemy.exc import OperationalError

from cell_service import failures as plain
from cell_service.db.sql.engine import Database, PoolLimits
from cell_service.db.sql.failures import lacks_database, reason_of
from cell_service.errors import DatabaseUnavailable
from mapping_db.locating.shared_cache import cache_failure
from tests.real.databases import Server, free_port

RAW = re.compile(r"\(\d{4},|Errno|FATAL|OperationalError|sqlite3\.|psycopg\.|Background on")
LIMITS = PoolLimits(size=1, overflow=0, connect_seconds=60)
SECRET = "s3cr3t"


def said(url: URL | str, work: Callable[[Database], object] = Database.ping) -> str:
    """Why `work` can't be done."""
    shown = url if isinstance(url, str) else url.render_as_string(hide_password=False)
    db = Database(shown, LIMITS)
    try:
        with pytest.raises(DatabaseUnavailable) as refused:
            work(db)
    finally:
        db.dispose()
    reason = str(refused.value.fields["reason"])
    assert SECRET not in reason
    return reason


@pytest.fixture(params=[pytest.param("mariadb", marks=pytest.mark.real),
                        pytest.param("postgresql", marks=pytest.mark.real)])  # fmt: skip
def account(request: pytest.FixtureRequest) -> Iterator[URL]:
    """An account that may only read its database, on each kind of server. Its name is that of the database."""
    server: Server = request.getfixturevalue(request.param)
    url = make_url(server.create_database())
    admin = Database(url.render_as_string(hide_password=False))
    name = str(url.database)
    with admin.connect() as tx:
        tx.execute(text("CREATE TABLE things (id INTEGER)"))
        if request.param == "mariadb":
            tx.exec_driver_sql(f"CREATE USER {name}@'127.0.0.1' IDENTIFIED BY '{SECRET}'")
            tx.exec_driver_sql(f"GRANT SELECT ON {name}.* TO {name}@'127.0.0.1'")
        else:
            tx.exec_driver_sql(f"CREATE ROLE {name} LOGIN PASSWORD '{SECRET}'")
    yield url.set(username=name, password=SECRET)
    admin.dispose()


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"username": "nobody_of_this_name"}, "the server refuses the user or the password ("),
        ({"database": "not_there"}, "the server has no database of this name ("),
        ({"host": "no-such-host.invalid"}, "its host name is not known ("),
        ({"port": 1}, "the connection is refused: no server listens there ("),
    ],
)
def test_a_wrong_url_is_said_in_plain_words(account: URL, changed: dict[str, object], says: str) -> None:
    if changed.get("database") and account.get_backend_name() == "mysql":
        account = account.set(username="root", password="")  # an account without rights there is refused for that
    wrong = account.set(**changed)  # type: ignore[arg-type]
    reason = said(wrong)
    assert reason.startswith(says)
    assert wrong.render_as_string(hide_password=True) in reason
    assert not RAW.search(reason)


def test_a_missing_right_is_said_with_the_table(account: URL) -> None:
    reason = said(account, lambda db: db.run(lambda tx: tx.execute(text("INSERT INTO things VALUES (1)"))))
    assert reason.startswith("the account lacks a right (")
    assert "things" in reason
    assert reason.endswith("; grant it on the server")


def test_a_server_without_tls_is_said_as_such(account: URL) -> None:
    ours = {"ssl_ca": "/nothing"} if account.get_backend_name() == "mysql" else {"sslmode": "require"}
    assert said(account.set(query=ours)).startswith("TLS fails (")


@pytest.mark.real
def test_a_wrong_password_is_said_as_such(mariadb: Server) -> None:
    url = make_url(mariadb.create_database()).set(password=f"not-{SECRET}")
    assert said(url).startswith("the server refuses the user or the password (mysql+pymysql://root:***@127.0.0.1:")


@pytest.mark.real
def test_too_many_connections_are_said_as_such(postgresql: Server) -> None:
    url, name = make_url(postgresql.create_database()), f"u{uuid.uuid4().hex[:10]}"
    admin = Database(url.render_as_string(hide_password=False))
    with admin.connect() as tx:
        tx.exec_driver_sql(f"CREATE ROLE {name} LOGIN CONNECTION LIMIT 0")
    admin.dispose()
    assert said(url.set(username=name)).startswith("the server has too many connections (")


@pytest.mark.real
def test_a_replica_that_only_reads_is_said_as_such(postgresql: Server) -> None:
    def write(db: Database) -> None:
        with db.begin() as tx:
            tx.exec_driver_sql("SET TRANSACTION READ ONLY")
            tx.exec_driver_sql("CREATE TABLE things (id INTEGER)")

    assert said(postgresql.create_database(), write).startswith("the database is read-only (")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A database with a table."""
    with closing(sqlite3.connect(tmp_path / "test.sqlite")) as made:
        made.execute("CREATE TABLE things (id INTEGER, data BLOB)")
    return tmp_path / "test.sqlite"


def test_a_full_disk_is_said_as_such(file: Path) -> None:
    def write(db: Database) -> None:
        with db.begin() as tx:
            tx.exec_driver_sql("PRAGMA max_page_count=3")
            tx.exec_driver_sql("INSERT INTO things VALUES (1, zeroblob(50000))")

    assert said(f"sqlite:///{file}", write) == (
        f"the disk of the database is full (sqlite:///{file}); free space on it"
    )  # fmt: skip


def test_a_file_that_may_not_be_written_is_said_as_such(file: Path) -> None:
    reason = said(
        f"sqlite:///file:{file}?mode=ro&uri=true",
        lambda db: db.run(lambda tx: tx.exec_driver_sql("INSERT INTO things VALUES (1, '')")),
    )
    assert reason.startswith("the database is read-only (")


def test_a_file_that_is_no_database_is_said_as_such(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"plain text" * 1000)
    reason = said(f"sqlite:///{tmp_path / 'x'}", lambda db: db.run(lambda tx: tx.execute(text("SELECT 1"))))
    assert reason.startswith("the file is no SQLite database, or is damaged (")
    assert said(f"sqlite:///{tmp_path / 'no' / 'x'}").startswith("the file can't be opened (")


@pytest.mark.parametrize(
    ("driver", "says"),
    [
        ("(1114, \"The table 'x' is full\")", "the disk of the database is full"),
        ("(1290, 'The MariaDB server is running with the --read-only option')", "the database is read-only"),
        ("(1040, 'Too many connections')", "the server has too many connections"),
        ("(2026, 'SSL connection error: certificate verify failed')", "TLS fails"),
        ("(2013, 'Lost connection to MySQL server during query (timed out)')", "the server does not answer in time"),
        ("(2006, \"MySQL server has gone away (BrokenPipeError(32, 'Broken pipe'))\")", "the connection broke"),
        ("(1205, 'Lock wait timeout exceeded; try restarting transaction')", "other work holds a lock"),
        ("(9999, 'Something new')", "Something new"),
    ],
)
def test_codes_and_texts_of_drivers_have_their_sentences(driver: str, says: str) -> None:
    number, words = ast.literal_eval(driver)
    failed = OperationalError("SELECT 1", {}, sqlite3.OperationalError(number, words))
    assert reason_of(failed, "URL").startswith(f"{says}")
    assert "(URL" in reason_of(failed, "URL")


def test_only_a_missing_database_lacks_one() -> None:
    missing = OperationalError("", {}, sqlite3.OperationalError(1049, "Unknown database 'x'"))
    refused = OperationalError("", {}, sqlite3.OperationalError(1045, "Access denied"))
    assert [lacks_database(each) for each in (missing, refused, None)] == [True, False, False]


def test_a_failure_that_is_new_is_said_in_the_driver_s_words() -> None:
    assert plain.sentence(None, "strange things\nand more", "URL") == "strange things (URL)"


@pytest.mark.parametrize(
    ("reply", "says"),
    [(b"HTTP/1.1 400 Bad Request\r\n\r\n", "the server speaks no memcached ("), (b"", "the connection broke (")],
)
def test_a_server_that_is_no_memcached_is_said_as_such(reply: bytes, says: str) -> None:
    from pymemcache import Client

    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        with closing(Client(server.getsockname(), connect_timeout=60, timeout=60)) as client:
            with pytest.raises(Exception) as refused:
                client.version()
        thread.join(60)
    assert cache_failure(refused.value, "here").startswith(says)


def test_a_memcached_that_does_not_run_is_said_as_such() -> None:
    from pymemcache import Client

    port = free_port()
    with pytest.raises(OSError) as refused:
        Client(("127.0.0.1", port)).version()
    assert cache_failure(refused.value, f"127.0.0.1:{port}") == (
        f"the connection is refused: no server listens there (127.0.0.1:{port}); "
        "start the server, or correct host and port"
    )
