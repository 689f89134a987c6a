"""The console proxy, for every kind of console: of the whole cloud where there is a global database, else of the cell
whose database the files name."""

from __future__ import annotations

import logging
from functools import partial

from oslo_config import cfg

from api_cell.servers import consoles
from cell_service.config import DatabaseSettings, Defaults, read
from cell_service.consoles.cell import CellConsoles
from cell_service.consoles.config import ConsoleAuth, ConsoleOrigins, ConsoleProxySettings, Vnc
from cell_service.consoles.connecting import host_security
from cell_service.consoles.proxy import ConsoleProxy, Lookup
from cell_service.consoles.sessions import Ended, SessionRules
from cell_service.db.sql.engine import Database, PoolLimits
from cell_service.errors import Invalid
from cell_service.rpc.transport import Transport
from cell_service.rpc.transports import open_transport
from tools.services.configured import configured_cloud, has_cloud
from tools.services.part import Made, Part
from tools.services.shared import Listen, Shared

log = logging.getLogger(__name__)

CONSOLE_PORT = 6080


def make(conf: cfg.ConfigOpts, shared: Shared, listen: Listen) -> Part:
    database, release = read(conf, DatabaseSettings), shared.release
    security, web = host_security(read(conf, Vnc)), read(conf, ConsoleProxySettings).web
    lookup: Lookup
    ended: Ended
    if has_cloud(conf):
        cloud = shared.cloud(lambda: configured_cloud(conf, shared.clock)).cloud
        lookup, ended = partial(consoles.opened_by, cloud), partial(consoles.ended, cloud)
    elif database.connection:
        transport = _queue(conf)
        db = Database(database.connection, PoolLimits(size=database.max_pool_size, overflow=database.max_overflow))
        cell = CellConsoles(db.connect, transport, shared.clock)
        lookup, ended = cell.opened_by, cell.ended
        release = partial(_close, db, transport)
    else:
        raise Invalid(reason="[api_database] or [database] connection is not set")
    origins = read(conf, ConsoleOrigins).allowed_origins
    rules = SessionRules(ended, read(conf, ConsoleAuth).enforce_session_timeout, shared.clock)
    proxy = ConsoleProxy(lookup, allowed_origins=origins, web=web, rules=rules, security=security)

    def begin() -> None:
        at = (listen.port or CONSOLE_PORT, listen.address or "127.0.0.1")
        proxy.start(*at, reuse_port=listen.reuse_port, settings=listen.connections)

    def end(grace_seconds: float) -> None:
        proxy.drain(grace_seconds)
        release()

    return Made(begin, end)


def _queue(conf: cfg.ConfigOpts) -> Transport | None:
    """The cell's queue; None where the files name none. Raises Invalid."""
    url = read(conf, Defaults).transport_url
    if url != Defaults().transport_url:
        return open_transport(url)
    log.warning("no [DEFAULT] transport_url: hosts do not confirm that a console is where its token says")
    return None


def _close(db: Database, transport: Transport | None) -> None:
    db.dispose()
    if transport is not None:
        transport.close()
