"""The keys of encrypted volumes. Each volume has one of its own, which is made before it and deleted after it.

A key that is of no use any more is recorded in the transaction that makes it so, and deleted from the key manager
afterwards: at once, or, while that does not answer, with the next one or at the next start.
"""

from __future__ import annotations

import logging
import threading

from sqlalchemy import Connection

from cell_service.db.sql.engine import Database
from cell_service.errors import Invalid, PeerUnavailable
from cell_service.logs import about
from cell_service.peers.keys import Keys
from compute_host.virt import luks
from tools.companions.volume import store
from tools.companions.volume.store import Record

log = logging.getLogger(__name__)


class VolumeKeys:
    """`keys`: None where no key manager is known."""

    def __init__(self, db: Database, keys: Keys | None) -> None:
        self._db, self._keys = db, keys

    def make(self, encryption: Record) -> str:
        """Make a key for a volume of a type with this encryption. Returns its id. Raises Invalid, PeerUnavailable."""
        known = self._demanded()
        try:
            wanted = luks.encryption_of(encryption)
            cipher = wanted.creation[0].partition("=")[2].partition("-")[0]
        except Invalid as error:
            raise Invalid(reason=f"No volume of this encrypted type can be made: {error}.") from None
        return known.create(cipher, wanted.key_bits)

    def copy(self, key_id: str) -> str:
        """Make the key of a volume that is a copy: it has the same bytes, for it is to open the copied content."""
        return self._demanded().copy(key_id)

    def get(self, key_id: str) -> bytes:
        return self._demanded().get(key_id)

    def _demanded(self) -> Keys:
        """Raises Invalid where there is no key manager."""
        if self._keys is None:
            log.warning("no encrypted volume made: there is no key manager")
            words = "so no volume of an encrypted type can be made."
            raise Invalid(reason=f"Key manager error: there is no key manager here, {words}")
        return self._keys

    def give_up(self, tx: Connection, key_id: str | None) -> None:
        """Record that no volume has the key any more."""
        if key_id is not None:
            store.add(tx, "unused key", "", None, key_id=key_id)

    def begin_deleting(self) -> None:
        """Delete what an earlier process left, on a thread of its own: the key manager may not be up yet."""
        with self._db.connect() as tx:
            left = store.search(tx, "unused key")
        if left:
            threading.Thread(target=self.delete_unused, name="unused keys", daemon=True).start()

    def delete_unused(self) -> None:
        """Delete the keys that are of no use from the key manager."""
        with self._db.connect() as tx:
            unused = store.search(tx, "unused key")
        if self._keys is None:
            return
        for one in unused:
            try:
                self._keys.delete(one["key_id"])
            except PeerUnavailable as error:
                log.warning("unused keys not deleted yet", extra=about(None, key=one["key_id"], reason=error))
                return
            self._db.run(lambda tx, done=one["id"]: store.remove(tx, done))  # type: ignore[misc]
