"""Attachments of volumes to servers (Block Storage API, microversion 3.27 and later).

A volume's status follows from its attachments: reserved (no attachment has a connector), attaching (one has),
in-use (one is completed, be it without a connector), available (no attachments).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from cell_service.db.sql.engine import Database
from cell_service.errors import Conflict, Invalid, PolycellError
from cell_service.http.response import Response
from tools.companions.route import CompanionRequest
from tools.companions.volume import store
from tools.companions.volume.exports import Exporter
from tools.companions.volume.store import Record
from tools.companions.volume.visibility import listed, visible

STATES = ("reserved", "attaching", "attached")
_VOLUME = {"reserved": "reserved", "attaching": "attaching", "attached": "in-use"}


class Attachments:
    def __init__(self, db: Database, exporter: Exporter) -> None:
        self._db, self._exporter = db, exporter

    def create(self, req: CompanionRequest) -> Response:
        """Reserve a volume; with a connector, connect it at once. Done by one server only, unless multiattach."""
        requested = req.content("attachment")
        volume_id, server = str(requested.get("volume_uuid", "")), requested.get("instance_uuid")
        if not server:
            raise Invalid(reason="Invalid input for field/attribute attachment: 'instance_uuid' is required.")

        def work(tx: Connection) -> Record:
            volume = visible(tx, req, "volume", volume_id)
            others = store.search(tx, "attachment", parent_id=volume_id)
            shared = volume["multiattach"] or all(other["instance"] == server for other in others)
            usable = ("available", "reserved", "attaching", "in-use") if others else ("available",)
            if volume["status"] not in usable or not shared:
                words = (
                    f"status must be available or downloading to reserve, but the current status is {volume['status']}."
                )
                raise Invalid(reason=f"Invalid volume: Volume {volume_id} {words}")
            made = store.add(
                tx, "attachment", volume["project_id"], volume_id, volume_id=volume_id, instance=server,
                status="reserved", connector=None, attached_at=None, attach_mode=requested.get("mode") or "rw",
            )  # fmt: skip
            if requested.get("connector"):
                made = _connected(tx, made, requested["connector"])
            follow(tx, volume_id)
            return made

        made = self._db.run(work)
        try:
            self._exporter.follow(volume_id)
        except (PolycellError, OSError):
            self._db.run(lambda tx: _removed(tx, made))
            raise
        return Response(200, {"attachment": self._shown(made)})

    def update(self, req: CompanionRequest) -> Response:
        """Connect a reserved volume: once this has answered, the connector's host reaches it."""
        connector = req.content("attachment").get("connector")
        if not isinstance(connector, dict) or not connector:
            raise Invalid(reason="Invalid input for field/attribute attachment: 'connector' is required.")

        def work(tx: Connection) -> tuple[Record, Record]:
            before = visible(tx, req, "attachment", req.params["id"])
            made = _connected(tx, before, connector)
            follow(tx, made["volume_id"])
            return before, made

        def undo(tx: Connection) -> None:
            if (now := store.find(tx, "attachment", made["id"])) is not None:
                store.change(tx, now, {"connector": before["connector"], "status": before["status"]})
                follow(tx, made["volume_id"])

        before, made = self._db.run(work)
        try:
            self._exporter.follow(made["volume_id"])
        except (PolycellError, OSError):
            self._db.run(undo)
            raise
        return Response(200, {"attachment": self._shown(made)})

    def action(self, req: CompanionRequest) -> Response:
        if not isinstance(req.body, dict) or "os-complete" not in req.body:
            raise Invalid(reason="There is no such action of attachments.")

        def work(tx: Connection) -> None:
            made = visible(tx, req, "attachment", req.params["id"])
            store.change(tx, made, {"status": "attached", "attached_at": made["attached_at"] or store.now()})
            follow(tx, made["volume_id"])

        self._db.run(work)
        return Response(204)

    def show(self, req: CompanionRequest) -> Response:
        with self._db.connect() as tx:
            return Response(200, {"attachment": self._shown(visible(tx, req, "attachment", req.params["id"]))})

    def index(self, req: CompanionRequest) -> Response:
        keys = ("id", "status", "instance", "volume_id")
        return Response(200, {"attachments": [{key: one[key] for key in keys} for one in self._listed(req)]})

    def detail(self, req: CompanionRequest) -> Response:
        return Response(200, {"attachments": [self._shown(one) for one in self._listed(req)]})

    def delete(self, req: CompanionRequest) -> Response:
        """One that a server uses is for compute alone to delete, which shows its service token: else a host could still
        reach what another one is given next."""

        def work(tx: Connection) -> Record:
            made = visible(tx, req, "attachment", req.params["id"])
            if made["status"] != "reserved" and "service" not in req.caller.service_roles:
                message = f"Detach volume from instance {made['instance']} using the Compute API"
                raise Conflict(reason=message)
            return _removed(tx, made)

        self._exporter.follow(self._db.run(work)["volume_id"])
        return Response(200, {"attachments": []})

    def _listed(self, req: CompanionRequest) -> list[Record]:
        with self._db.connect() as tx:
            found = listed(tx, req, "attachment", req.one("volume_id"))
        server, status = req.one("instance_id"), req.one("status")
        return [one for one in found if server in (None, one["instance"]) and status in (None, one["status"])]

    def _shown(self, one: Record) -> Record:
        info = {} if one["connector"] is None else self._exporter.info(one)
        return {
            "id": one["id"],
            "status": one["status"],
            "instance": one["instance"],
            "volume_id": one["volume_id"],
            "attached_at": one["attached_at"] or "",
            "detached_at": "",
            "attach_mode": one["attach_mode"],
            "connection_info": info,
        }


def links_of(tx: Connection, volume_id: str) -> list[dict[str, Any]]:
    """The attachments as a volume's document shows them."""
    return [
        {
            "id": volume_id,
            "attachment_id": one["id"],
            "volume_id": volume_id,
            "server_id": one["instance"],
            "host_name": (one["connector"] or {}).get("host"),
            "device": (one["connector"] or {}).get("mountpoint") or "/dev/vdb",
            "attached_at": one["attached_at"],
        }
        for one in store.search(tx, "attachment", parent_id=volume_id)
        if one["connector"] is not None or one["status"] == "attached"
    ]


def servers_of(tx: Connection, volume_id: str) -> list[str]:
    """The servers that the volume is attached to, or reserved for."""
    return list(dict.fromkeys(one["instance"] for one in store.search(tx, "attachment", parent_id=volume_id)))


def is_connected(tx: Connection, volume_id: str) -> bool:
    """Whether a host is connected to the volume, or about to be."""
    return any(one["connector"] is not None for one in store.search(tx, "attachment", parent_id=volume_id))


def demand_free(tx: Connection, volume_id: str) -> None:
    """Raises Invalid while the volume has attachments or snapshots."""
    if store.search(tx, "attachment", parent_id=volume_id):
        raise Invalid(reason=f"Invalid volume: Volume {volume_id} is still attached, detach volume first.")
    if store.search(tx, "snapshot", parent_id=volume_id):
        raise Invalid(reason="Invalid volume: Volume still has 1 or more dependent snapshots.")


def _connected(tx: Connection, made: Record, connector: dict[str, Any]) -> Record:
    if made["connector"] is not None and made["connector"].get("host") != connector.get("host"):
        raise Conflict(reason=f"Attachment {made['id']} is connected from another host.")
    after = made["status"] if made["status"] == "attached" else "attaching"
    volume = store.get(tx, "volume", made["volume_id"])
    said = {"connector": connector, "status": after, "encrypted": bool(volume.get("encrypted"))}
    return store.change(tx, made, said)


def _removed(tx: Connection, made: Record) -> Record:
    store.remove(tx, made["id"])
    follow(tx, made["volume_id"])
    return made


def follow(tx: Connection, volume_id: str) -> None:
    """Set the volume's status to what its attachments make it, unless work on it goes on, which does that at its
    end."""
    volume = store.find(tx, "volume", volume_id)
    if volume is None or volume.get("job"):
        return
    there = {one["status"] for one in store.search(tx, "attachment", parent_id=volume_id)}
    furthest = max(there, key=STATES.index, default=None)
    store.change(tx, volume, {"status": _VOLUME[furthest] if furthest else "available"})
