"""The cloud as a command has it, composed from the configuration; nothing connects before it is used."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from cell_service.context import SYSTEM_CLOCK, Clock
from cell_service.db.sql.engine import Database, PoolLimits
from cell_service.errors import InstanceMappingNotFound, Invalid
from cell_service.rpc.transport import Transport
from mapping_db import instance_mappings
from mapping_db.cells.bus import CellBus
from mapping_db.cells.database import PROBE_SECONDS
from mapping_db.cells.registry import Cell, Cells, CellSettings
from mapping_db.cloud import Cloud
from mapping_db.locating.locator import Locator
from mapping_db.locating.shared_cache import open_shared
from tools.manage.settings import Settings

COMMAND_SECONDS = 3600.0
"""How long a command may wait for one cell: bounded only so that nothing hangs for ever."""
PATIENCE = 20.0
"""See CellSettings. No request of another client waits while a command does."""

LIMITS = PoolLimits(size=4, overflow=4, connect_seconds=5.0, read_seconds=600.0)


def open_transport(url: str) -> Transport:
    """The transport that the URL's scheme names."""
    from cell_service.rpc.transports import open_transport as opened

    return opened(url)


def open_database(
    url: str, what: str = "the database", secret_keys: Sequence[str] = (), limits: PoolLimits = LIMITS
) -> Database:
    """Raises Invalid for a URL that is none, without showing it."""
    try:
        return Database(url, limits, secret_keys)
    except Exception as error:  # a URL is outside data: any driver may object to it in its own way
        raise Invalid(reason=f"the URL of {what} is not usable ({type(error).__name__})") from error


@contextlib.contextmanager
def open_cloud(settings: Settings, clock: Clock = SYSTEM_CLOCK, seconds: float = 0.0) -> Iterator[Cloud]:
    """The cloud that the settings name. No server counts as down because it takes up to `seconds` to connect or to
    answer. Raises Invalid when they name no global database."""
    patience = max(PATIENCE, seconds / PROBE_SECONDS)  # a probe is what a cell has the least time for
    if not settings.api_database:
        raise settings.lacks("[api_database] connection")
    limits = replace(LIMITS, connect_seconds=max(LIMITS.connect_seconds, seconds))
    db = open_database(settings.api_database, "[api_database] connection", settings.secret_keys, limits)
    cell_settings = CellSettings(
        database_connection=settings.database, transport_url=settings.transport_url, poll_seconds=COMMAND_SECONDS,
        patience=patience,
    )  # fmt: skip
    bus = CellBus(
        "the global queue", settings.transport_url, clock, places=4, waiting=4, open_transport=open_transport,
        patience=patience,
    )  # fmt: skip
    try:
        with Cells(
            db, open_transport, clock, cell_settings, partial(Database, secret_keys=settings.secret_keys)
        ) as cells:
            yield Cloud(db=db, bus=bus, cells=cells, locator=Locator(db, open_shared(settings.cache), clock),
                        clock=clock)  # fmt: skip
    finally:
        bus.close()
        db.dispose()


def cell_of_instance(cloud: Cloud, uuid: str) -> Cell | None:
    """None when no cell is known of such an instance."""
    try:
        with cloud.db.connect() as tx:
            mapping = instance_mappings.get(tx, uuid)
    except InstanceMappingNotFound:
        return None
    return None if mapping.cell_id is None else cloud.cells.open(mapping.cell_id)
