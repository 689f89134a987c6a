"""The console proxy, for every kind of console: of the whole cloud where there is a global database, else of the cell
whose database the files name."""

from __future__ import annotations

from collections.abc import Collection

from oslo_config import cfg

from api_cell.servers import consoles
from cell_service.config import DatabaseSettings, read
from cell_service.consoles.config import ConsoleAuth, ConsoleOrigins, ConsoleProxySettings, Vnc
from cell_service.consoles.connecting import host_security
from cell_service.consoles.proxy import ConsoleProxy
from cell_service.consoles.sessions import SessionRules
from cell_service.db import console_tokens
from cell_service.db.sql.engine import Database, PoolLimits
from cell_service.errors import Invalid
from cell_service.model.console import ConsoleToken
from tools.services.configured import configured_cloud, has_cloud
from tools.services.part import Made, Part
from tools.services.shared import Listen, Shared

CONSOLE_PORT = 6080


def make(conf: cfg.ConfigOpts, shared: Shared, listen: Listen) -> Part:
    database, release = read(conf, DatabaseSettings), shared.release
    if has_cloud(conf):
        cloud = shared.cloud(lambda: configured_cloud(conf, shared.clock)).cloud

        def lookup(secret: str) -> ConsoleToken | None:
            return consoles.opened_by(cloud, secret)

        def ended(opened: Collection[ConsoleToken]) -> Collection[ConsoleToken]:
            return consoles.ended(cloud, opened)
    elif database.connection:
        db = Database(database.connection, PoolLimits(size=database.max_pool_size, overflow=database.max_overflow))
        release = db.dispose

        def lookup(secret: str) -> ConsoleToken | None:
            with db.connect() as tx:
                return console_tokens.find(tx, secret, shared.clock.now())

        def ended(opened: Collection[ConsoleToken]) -> Collection[ConsoleToken]:
            with db.connect() as tx:
                return console_tokens.ended(tx, opened)
    else:
        raise Invalid(reason="[api_database] or [database] connection is not set")
    origins = read(conf, ConsoleOrigins).allowed_origins
    rules = SessionRules(ended, read(conf, ConsoleAuth).enforce_session_timeout, shared.clock)
    security, web = host_security(read(conf, Vnc)), read(conf, ConsoleProxySettings).web
    proxy = ConsoleProxy(lookup, allowed_origins=origins, web=web, rules=rules, security=security)

    def begin() -> None:
        at = (listen.port or CONSOLE_PORT, listen.address or "127.0.0.1")
        proxy.start(*at, reuse_port=listen.reuse_port, settings=listen.connections)

    def end(grace_seconds: float) -> None:
        proxy.drain(grace_seconds)
        release()

    return Made(begin, end)
