"""`cell_v2 init`: all that is to be run and stored on a new cell's servers, written down and not run."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

from sqlalchemy import URL, make_url

from cell_service.errors import Invalid
from cell_service.rpc.urls import rabbit_server
from tools.manage.command import Args, arg, command
from tools.manage.new_cell_files import KINDS, Account, NewCell, commands, files
from tools.manage.out import Out
from tools.manage.settings import Settings, read_settings
from tools.manage.urls import checked_transport

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")
_SERVER = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9a-fA-F:]+\])(?::\d+)?")


@command("cell_v2 init", arg("name", metavar="NAME", help="of the new cell"),
         arg("--directory", metavar="DIR", help="where the files go, which must not be there; default: ./NAME"),
         arg("--database-kind", choices=tuple(KINDS), help="of its database server; default: the own database's"),
         arg("--database-host", metavar="HOST[:PORT]", help="its database server"),
         arg("--queue-host", metavar="HOST[:PORT]", help="its RabbitMQ"),
         arg("--auth-url", metavar="URL", help="Keystone's, for the cell; default: the own configuration's"),
         arg("--api-config", metavar="FILE", help="of global processes with other accounts than the administrator's"),
         local=True)  # fmt: skip
def init(_cloud: object, args: Args, out: Out) -> int:
    """Write the SQL, the RabbitMQ commands and the configuration files of a new cell, with new passwords, and say what
    to do with them. What no option gives is requested, on a terminal. Nothing is run, and no database is opened. 0
    written; 1 something is missing or invalid; 2 the directory is there already."""
    try:
        cell = _described(args, out)
    except Invalid as error:
        out.warn(str(error))
        return 1
    directory = Path(args.directory or f"./{cell.name}")
    if directory.exists():
        out.warn(f"{directory} is there already")
        return 2
    written = files(cell)
    _write(directory, written)
    steps = commands(cell, directory)
    lines = [f"Written to {directory}, for its owner alone as they have passwords: {', '.join(written)}.", "Next:"]
    lines += [f"  {number}. {step}" for number, step in enumerate(steps, start=1)]
    out.value("\n".join(lines), name=cell.name, directory=str(directory), files=list(written), commands=steps)
    return 0


def _described(args: Args, out: Out) -> NewCell:
    """Raises Invalid."""
    if not _NAME.fullmatch(args.name):
        raise Invalid(
            reason=f"{args.name} is no name for a cell's database, vhost and accounts: letters, digits, - and _"
        )
    settings = args.settings
    api = read_settings((args.api_config,)) if args.api_config else settings
    own = _url(settings.database)
    kind = args.database_kind or _answer(out, "Kind of its database server", KINDS, _kind(own) or "mysql")
    if kind not in KINDS:
        raise Invalid(reason=f"{kind} is none of {', '.join(KINDS)}")
    return NewCell(
        name=args.name, kind=kind,
        database_server=_server(args.database_host or _answer(out, "Its database server", ("HOST[:PORT]",))),
        queue_server=_server(args.queue_host or _answer(out, "Its RabbitMQ", ("HOST[:PORT]",))),
        auth_url=args.auth_url or settings.placement.auth_url or "http://keystone:5000",
        administrator=_account(settings), api=_account(api), broker=_broker_account(api),
        database_password=secrets.token_urlsafe(24), queue_password=secrets.token_urlsafe(24),
        service_password=secrets.token_urlsafe(24),
    )  # fmt: skip


def _answer(out: Out, question: str, choices: tuple[str, ...] | dict[str, str], default: str = "") -> str:
    """Ask a person, and return the answer. Raises Invalid where there is no person, or no answer."""
    hint = f" [{default}]" if default else ""
    answer = out.ask(f"{question} ({', '.join(choices)}){hint}: ") if out.can_ask else ""
    if not (answer or default):
        raise Invalid(reason=f"{question} is not given; see the options: there is no terminal to ask at"
                      if not out.can_ask else f"{question} is not given")  # fmt: skip
    return answer or default


def _server(text: str) -> str:
    if not _SERVER.fullmatch(text):
        raise Invalid(reason=f"{text} is no HOST or HOST:PORT")
    return text


def _url(text: str) -> URL | None:
    try:
        return make_url(text) if text else None
    except Exception as error:  # a URL is outside data
        raise Invalid(reason="[database] connection is no URL") from error


def _kind(own: URL | None) -> str:
    backend = own.get_backend_name() if own is not None else ""
    return {"mariadb": "mysql", "postgres": "postgresql"}.get(backend, backend) if backend != "sqlite" else ""


def _account(settings: Settings) -> Account:
    """That of [database] connection, which fills the cell's mapping in. Raises Invalid when it has none."""
    own = _url(settings.database)
    if own is None or not own.username or not own.password:
        lacks = settings.lacks("[database] connection")
        raise Invalid(reason=f"{lacks}, or has no user and password, with which the cell is to be opened")
    return Account(own.username, str(own.password))


def _broker_account(settings: Settings) -> Account:
    """That of [DEFAULT] transport_url. Raises Invalid when it has none."""
    url = settings.transport_url
    if not url or checked_transport(url).partition("://")[0] not in ("rabbit", "amqp", "amqps"):
        raise settings.lacks("[DEFAULT] transport_url of RabbitMQ")
    login = rabbit_server(url).addresses[0].login
    return Account(login.user, login.password)


def _write(directory: Path, written: dict[str, str]) -> None:
    directory.mkdir(mode=0o700, parents=True)
    for name, text in written.items():
        number = os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(text)
