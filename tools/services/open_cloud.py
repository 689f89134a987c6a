"""The global side of a cloud, put together from its parts: for processes, tests and benchmarks alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dogpile.cache.api import CacheBackend

from cell_service.context import Clock
from cell_service.db.sql.engine import Database
from cell_service.rpc.transport import Transport
from mapping_db.cells.bus import CellBus
from mapping_db.cells.database import OpenDatabase
from mapping_db.cells.registry import Cells, CellSettings
from mapping_db.cloud import Cloud
from mapping_db.global_database import GlobalDatabase
from mapping_db.locating.locator import Locator


@dataclass(frozen=True, slots=True)
class OpenCloud:
    """A cloud whose topology is followed from now on, until `close`."""

    cloud: Cloud
    superconductors: CellBus
    """The connection to the super-conductors' queue; behind a breaker, as each cell's queue is."""

    def close(self) -> None:
        """Close all that was opened for it, and the global database."""
        self.cloud.cells.close()
        self.cloud.bus.close()
        self.superconductors.close()
        self.cloud.db.dispose()


def open_cloud(
    db: GlobalDatabase,
    transport_url: str,
    clock: Clock,
    *,
    open_transport: Callable[[str], Transport],
    settings: CellSettings | None = None,
    open_database: OpenDatabase = Database,
    shared_cache: CacheBackend | None = None,
) -> OpenCloud:
    """The cloud of that global database, whose super-conductors serve on the queue at `transport_url`."""
    settings = settings or CellSettings()
    superconductors = CellBus(
        "the global one", transport_url, clock,
        places=settings.calls, waiting=settings.waiting, open_transport=open_transport,
        patience=settings.patience,
    )  # fmt: skip
    watched = [db.guard, superconductors.guard]
    cells = Cells(db, open_transport, clock, settings, open_database, watched)
    cells.start()
    cloud = Cloud(db, open_transport(transport_url), cells, Locator(db, shared_cache, clock), clock)
    return OpenCloud(cloud, superconductors)
