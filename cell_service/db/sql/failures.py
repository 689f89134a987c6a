"""Why a database can't be used, in plain words: the errors of pymysql, psycopg and sqlite3."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy.exc import DatabaseError, DBAPIError

from cell_service import failures
from cell_service.failures import NETWORK, kind

_NO_DATABASE = kind("the server has no database of this name", "create it, or correct the URL",
                    r'database ".*" does not exist', "1049 3D000")  # fmt: skip
_KINDS = (
    _NO_DATABASE,
    kind("the server refuses the user or the password", "correct them in the URL, or the account on the server",
         'authentication failed|no password supplied|no pg_hba.conf entry|role ".*" does not exist',
         "1045 1130 1698 28P01 28000"),
    kind("the account lacks a right", "grant it on the server", "permission denied",
         "1044 1142 1143 1227 1370 42501", detailed=True),
    kind("the server has too many connections", "raise its limit, or lower max_pool_size",
         "too many (clients|connections)|remaining connection slots", "1040 1203 1226 53300"),
    kind("the disk of the database is full", "free space on it", "disk is full|No space left", "1021 1114 53100"),
    kind("the database is read-only", "use the primary server, or make the file writable",
         "readonly database|read-only", "1290 1792 1836 25006"),
    kind("the server is starting or stopping", "wait until it runs", "starting up|shutting down", "57P01 57P03"),
    kind("TLS fails", "check the certificates, and whether the server has TLS at this port", "", "2026",
         detailed=True),
    kind("the connection broke", "see the server's log", "", "2006"),
    kind("other work holds a lock that is needed", "try again", "database is locked", "1205 1213 40001 40P01 55P03"),
    kind("the file can't be opened", "check its path, its directory and the rights on both",
         "unable to open database file|disk I/O error"),
    kind("the file is no SQLite database, or is damaged", "correct the path, or restore a backup",
         "not a database|malformed"),
    *NETWORK,
)  # fmt: skip
_MISSING_TABLE = re.compile(
    r"Table '(?:[\w$]+\.)?(\w+)' doesn't exist|relation \"(?:\w+\.)?(\w+)\" does not|no such table: (?:\w+\.)?(\w+)"
)


def code_of(error: DBAPIError) -> object:
    """MariaDB's number or PostgreSQL's SQLSTATE of an error, None for SQLite's."""
    original: Any = error.orig
    number = original.args[0] if original is not None and original.args else None
    return number if isinstance(number, int) else getattr(original, "sqlstate", None)


def reason_of(error: DBAPIError, where: str) -> str:
    """Why the database can't be used, and what to do. `where`: its URL without the password."""
    text = _text(error)
    return failures.sentence(failures.find(_KINDS, text, str(code_of(error))), text, where)


def is_refusal(error: DBAPIError) -> bool:
    """Whether the database refuses every statement of this kind: a right is missing, it is read-only, its file is
    none."""
    by_code = failures.find(_KINDS, "", str(code_of(error))) is not None
    return by_code or (type(error) is DatabaseError and failures.find(_KINDS, _text(error)) is not None)


def lacks_database(error: BaseException | None) -> bool:
    """Whether the server runs and has no database of the name in the URL."""
    return (
        isinstance(error, DBAPIError) and failures.find((_NO_DATABASE,), _text(error), str(code_of(error))) is not None
    )


def missing_table(error: DBAPIError) -> str:
    """The name of the table that the database lacks; empty when it lacks a column."""
    found = _MISSING_TABLE.search(str(error.orig))
    return next((name for name in found.groups() if name), "") if found else ""


def schema_reason(error: DBAPIError, table: str, where: str) -> str:
    """The table or column that the database lacks. `table` is empty for a column."""
    lacking = f"table {table} is missing" if table else _text(error).partition("\n")[0]
    return f"{lacking} ({where})"


def _text(error: DBAPIError) -> str:
    """The driver's text without MariaDB's number."""
    arguments = error.orig.args if error.orig is not None else ()
    return str(arguments[1]) if len(arguments) > 1 else str(error.orig)
