"""Which cell owns an instance: process-local LRU, then a cache shared with other processes, then the global database.

What is cached may be out of date. A location has the epoch of its mapping, older never replaces newer, and a cell that
does not own an instance says so (see mapping_db.locating.routing): so correctness never depends on the caches.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Iterable

from dogpile.cache.api import NO_VALUE, CacheBackend

from cell_service.context import SYSTEM_CLOCK, Clock
from cell_service.db.sql.engine import Database
from cell_service.errors import InstanceNotFound
from mapping_db import instance_mappings
from mapping_db.locations import Location, key, pack, unpack

__all__ = ["Location", "Locator"]

NEAR_SIZE = 50_000
UNKNOWN_SIZE = 10_000
UNKNOWN_SECONDS = 1.5

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Locator:
    """Thread-safe. `shared` None: only this process caches."""

    def __init__(
        self, db: Database, shared: CacheBackend | None = None, clock: Clock = SYSTEM_CLOCK, size: int = NEAR_SIZE
    ) -> None:
        self._db, self._shared, self._clock, self._size = db, shared, clock, size
        self._lock = threading.Lock()
        self._near: OrderedDict[str, Location] = OrderedDict()
        self._unknown: OrderedDict[str, float] = OrderedDict()
        self._requested: dict[str, _Question] = {}
        self._remembered = 0

    def find(self, instance_uuid: str, *, fresh: bool = False) -> Location:
        """Where the instance lives; `fresh`: read from the database, and the caches are corrected.

        Raises InstanceNotFound (also, without a query, for ids that are no uuids), DatabaseUnavailable.
        """
        if not _UUID.fullmatch(instance_uuid):
            raise InstanceNotFound(instance_id=instance_uuid)
        if fresh:
            return self._correct(instance_uuid)
        with self._lock:
            known = self._near.get(instance_uuid)
            if known is not None:
                self._near.move_to_end(instance_uuid)
                return known
            if self._unknown.get(instance_uuid, 0.0) > self._clock.monotonic():
                raise InstanceNotFound(instance_id=instance_uuid)
            question = self._requested.get(instance_uuid)
            mine = question is None
            if question is None:
                question = self._requested[instance_uuid] = _Question()
        if mine:
            self._answer(instance_uuid, question)
        return question.answer()

    def find_many(self, instance_uuids: Iterable[str]) -> dict[str, Location]:
        """Those of the instances that are known. Raises DatabaseUnavailable."""
        wanted = [uuid for uuid in dict.fromkeys(instance_uuids) if _UUID.fullmatch(uuid)]
        with self._lock:
            found = {uuid: self._near[uuid] for uuid in wanted if uuid in self._near}
        missing = [uuid for uuid in wanted if uuid not in found]
        if missing and self._shared is not None:
            values = self._shared.get_multi([key(uuid) for uuid in missing])
            unpacked = [_unpacked(uuid, value) for uuid, value in zip(missing, values, strict=True)]
            shared = [location for location in unpacked if location is not None]
            self._keep(shared)
            found.update({location.instance_uuid: location for location in shared})
            missing = [uuid for uuid in missing if uuid not in found]
        if missing:
            with self._db.connect() as tx:
                stored = instance_mappings.places(tx, missing)
            placed = [location for location in stored.values() if location.cell_id is not None]
            self._keep(placed)
            if self._shared is not None and placed:
                self._shared.set_multi({key(location.instance_uuid): pack(location) for location in placed})
            found.update(stored)
        return found

    def remember(self, location: Location) -> None:
        """Cache a location just written to the database, unless a newer one is known."""
        with self._lock:
            self._unknown.pop(location.instance_uuid, None)
            self._remembered += 1
        if location.cell_id is None:
            return  # it will change soon, and no cell could report the change
        self._keep([location])
        if self._shared is not None:
            self._shared.set(key(location.instance_uuid), pack(location))

    def forget(self, instance_uuid: str) -> None:
        """Drop the instance from all caches."""
        with self._lock:
            self._near.pop(instance_uuid, None)
        if self._shared is not None:
            self._shared.delete(key(instance_uuid))

    # -- looking up -----------------------------------------------------------------------------

    def _answer(self, instance_uuid: str, question: _Question) -> None:
        """Find the answer for all callers that wait for it."""
        try:
            location = self._from_shared(instance_uuid)
            question.location = location or self._from_database(instance_uuid)
            if location is not None:
                self._keep([location])
            else:
                self.remember(question.location)
        except Exception as error:  # noqa: BLE001  raised in every caller that waits
            question.error = error
        finally:
            with self._lock:
                del self._requested[instance_uuid]
            question.answered.set()

    def _correct(self, instance_uuid: str) -> Location:
        """Read the location from the database, and correct the caches. A cached epoch ahead of the database's is from
        before the database was restored, or of a move that this read just missed: then nothing stays cached."""
        try:
            location = self._from_database(instance_uuid)
        except InstanceNotFound:
            self.forget(instance_uuid)
            raise
        cached = self._from_shared(instance_uuid)
        with self._lock:
            near = self._near.get(instance_uuid)
        if any(known is not None and known != location and known.epoch >= location.epoch for known in (cached, near)):
            self.forget(instance_uuid)
        else:
            self.remember(location)
        return location

    def _from_shared(self, instance_uuid: str) -> Location | None:
        if self._shared is None:
            return None
        return _unpacked(instance_uuid, self._shared.get(key(instance_uuid)))

    def _from_database(self, instance_uuid: str) -> Location:
        remembered = self._remembered
        with self._db.connect() as tx:
            location = instance_mappings.places(tx, [instance_uuid]).get(instance_uuid)
        if location is not None:
            return location
        with self._lock:
            if remembered == self._remembered:  # else it may have been created since the read
                self._unknown[instance_uuid] = self._clock.monotonic() + UNKNOWN_SECONDS
            if len(self._unknown) > UNKNOWN_SIZE:
                self._unknown.popitem(last=False)
        raise InstanceNotFound(instance_id=instance_uuid)

    def _keep(self, locations: Iterable[Location]) -> None:
        """Put them into the process's own cache, except where that has newer ones."""
        with self._lock:
            for location in locations:
                known = self._near.get(location.instance_uuid)
                if known is None or known.epoch <= location.epoch:
                    self._near[location.instance_uuid] = location
                    self._near.move_to_end(location.instance_uuid)
            while len(self._near) > self._size:
                self._near.popitem(last=False)


class _Question:
    """A location that is being looked up, perhaps for several callers at once."""

    __slots__ = ("answered", "error", "location")

    def __init__(self) -> None:
        self.answered = threading.Event()
        self.location: Location | None = None
        self.error: Exception | None = None

    def answer(self) -> Location:
        self.answered.wait()
        if self.error is not None:
            raise self.error
        assert self.location is not None
        return self.location


def _unpacked(instance_uuid: str, value: object) -> Location | None:
    return unpack(instance_uuid, value) if value is not NO_VALUE and isinstance(value, bytes) else None
