"""URLs of databases and queues: checked, shown without passwords, and the one of cell0 made from the own cell's."""

from __future__ import annotations

import re

from sqlalchemy import make_url

from cell_service.errors import Invalid
from cell_service.rpc.urls import rabbit_server
from mapping_db.cells.url_templates import demand_known

CELL0_TRANSPORT = "none:///"
_RABBIT = ("rabbit", "amqp", "amqps")
_TRANSPORTS = (*_RABBIT, "local", "memory", "none")
_BACKENDS = {"sqlite", "mysql", "mariadb", "postgresql", "postgres"}
_PLACES = re.compile(r"[^:@/,]*(:[^@/,]*)?@[^@/,]*(,[^:@/,]*(:[^@/,]*)?@[^@/,]*)*")
_LOGIN = re.compile(r"([^:@/,]*):([^@/,]*)@")
_LOGIN_OF_PLACE = re.compile(r"[^,@]*@")
_VARIABLE = re.compile(r"\{[a-z]+_?\d*\}")
_SECRET = re.compile(r"(?i)\b((?:\w*pass(?:word|wd)?|\w*secret|\w*token)=)[^&#]*")


def masked(url: str) -> str:
    """The URL as people may see it: passwords are ****. A variable of a template is no secret, and stays."""
    scheme, mark, rest = url.partition("://")
    login, at, _ = rest.rpartition("@")
    if not mark or not at:
        return _SECRET.sub(r"\1****", url)
    places, slash, path = rest.partition("/")
    if _PLACES.fullmatch(places) and "@" not in path:
        shown = _LOGIN.sub(_hidden, places) + slash + path
    else:  # a password with characters that should have been quoted
        shown = f"{login.partition(':')[0]}:****@{rest[len(login) + 1 :]}"
    return scheme + mark + _SECRET.sub(r"\1****", shown)


def address(url: str) -> str:
    """Where the server is: its host and port, or hosts; the path of a file or a socket."""
    _, mark, rest = url.partition("://")
    places, slash, path = rest.partition("/")
    if not mark:
        return masked(url)
    return _LOGIN_OF_PLACE.sub("", places) or slash + path.lstrip("/")


def checked_database(url: str) -> str:
    """Raises Invalid unless it can be the URL of a database, or a template of one."""
    demand_known(url)
    try:
        backend = make_url(_VARIABLE.sub("1", url)).get_backend_name()
    except Exception as error:  # a URL is outside data
        raise Invalid(reason=f"Invalid database connection: {masked(url)}") from error
    if backend not in _BACKENDS and not url.startswith("{scheme}"):
        raise Invalid(reason=f"Invalid database connection: {masked(url)} is not SQLite, MySQL/MariaDB or PostgreSQL")
    return url


def checked_transport(url: str) -> str:
    """Raises Invalid unless it can be the URL of a queue, or a template of one."""
    demand_known(url)
    plain = _VARIABLE.sub("1", url.replace("{scheme}", "rabbit"))
    scheme, mark, rest = plain.partition("://")
    if not mark or scheme not in _TRANSPORTS or re.search(r"\s", url):
        raise Invalid(reason=f"Invalid transport URL: {masked(url)} ({', '.join(_TRANSPORTS)} are known)")
    if scheme in _RABBIT and rest:
        try:
            rabbit_server(plain)
        except Invalid as error:
            raise Invalid(reason=f"Invalid transport URL: {masked(url)}: {error}") from error
    return url


def cell0_of(database_url: str) -> str:
    """nova's place for cell0: the same server, the database's name with _cell0 appended."""
    url = make_url(checked_database(database_url))
    return url.set(database=f"{url.database or ''}_cell0").render_as_string(hide_password=False)


def _hidden(found: re.Match[str]) -> str:
    password = found[2] if _VARIABLE.fullmatch(found[2]) or not found[2] else "****"
    return f"{found[1]}:{password}@"
