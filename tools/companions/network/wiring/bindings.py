"""The meeting of records and wiring: a write that binds a port is answered when its host is wired, and other writes
trigger the loop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from cell_service.db.sql.engine import Database
from tools.companions.network import store
from tools.companions.network.nouns import Noun
from tools.companions.network.wiring.loop import Wiring

Record = dict[str, Any]
VIF_TYPE = "bridge"
FAILED = "binding_failed"


def triggering(noun: Noun, wiring: Wiring) -> Noun:
    """The noun, each write of which triggers the wiring's loop."""
    return replace(noun, written=lambda records: wiring.trigger())


def settled(noun: Noun, wiring: Wiring, db: Database) -> Noun:
    """The noun of ports: a write that binds ports to a host with a namespace is answered when they are wired there, or
    have failed."""

    def written(ports: list[Record]) -> None:
        bound = [
            port for port in ports if port["binding:vif_type"] == VIF_TYPE and wiring.wires(port["binding:host_id"])
        ]
        if not bound:
            wiring.trigger()
            return
        failed = wiring.settle({(port["network_id"], port["binding:host_id"]) for port in bound})
        for port in bound:
            if (port["network_id"], port["binding:host_id"]) in failed:
                port |= db.run(lambda tx, one=port["id"]: _fail(tx, one))  # type: ignore[misc]

    return replace(noun, written=written)


def _fail(tx: Connection, port_id: str) -> Record:
    values: Record = {"binding:vif_type": FAILED, "binding:vif_details": {}, "status": "DOWN"}
    port = store.find(tx, "port", port_id)
    if port is None:
        return {}
    store.change(tx, port, values)
    return values | {"revision_number": port["revision_number"] + 1}
