"""Access rules of shares: the addresses that may mount one. A rule is queued first, then applied, and becomes active
after it was polled so many times, so that clients have to wait for it."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from cell_service.db.sql.engine import Database
from cell_service.errors import Forbidden, Invalid
from cell_service.http.response import Response
from tools.companions.route import CompanionRequest
from tools.companions.volume import store
from tools.companions.volume.store import Record

REFUSES = "refuses_access"
"""A share with this key in its metadata gives no access: its rules end in error."""
HIDDEN = "******"
See = Callable[[Connection, CompanionRequest, str], Record]


class Rules:
    """`see` gives a share that the caller may know of, `own` one whose rules the caller may change."""

    def __init__(self, db: Database, see: See, own: See, looks: int) -> None:
        self._db, self._see, self._own, self._looks = db, see, own, looks

    def allow(self, req: CompanionRequest, requested: Record) -> Response:
        kind, to, level = (
            requested.get("access_type"),
            str(requested.get("access_to", "")),
            requested.get("access_level") or "rw",
        )
        if kind not in ("ip", "user", "cert", "cephx") or level not in ("rw", "ro"):
            raise Invalid(reason="Invalid share access type or level.")
        if kind == "ip":
            _demand_network(to)
        if not 0 < len(to) < 256:
            raise Invalid(reason="Invalid share access: access_to must have 1 to 255 characters.")

        def work(tx: Connection) -> Record:
            share = self._own(tx, req, req.params["id"])
            if share["status"] != "available":
                raise Invalid(reason=f"Invalid share: Share {share['id']} has no instances in available status.")
            rules = store.search(tx, "access", parent_id=share["id"])
            if any((one["access_type"], one["access_to"]) == (kind, to) for one in rules):
                raise Invalid(reason=f"Share access {kind}:{to} exists.")
            refused = REFUSES in share["metadata"]
            return store.add(
                tx, "access", req.caller.project_id, share["id"], share_id=share["id"], access_type=kind, access_to=to,
                access_level=level, access_key=None, metadata=requested.get("metadata") or {},
                state=_state(self._looks, refused), looks=self._looks, refused=refused,
                lock_deletion=requested.get("lock_deletion") is True,
                lock_visibility=requested.get("lock_visibility") is True, user_id=req.caller.user_id,
            )  # fmt: skip

        return Response(200, {"access": _shown(req, self._db.run(work))})

    def deny(self, req: CompanionRequest, requested: Record) -> Response:
        """A locked rule is removed only by an administrator or the user that locked it, and only with `unrestrict`."""

        def work(tx: Connection) -> None:
            share = self._own(tx, req, req.params["id"])
            rule = store.get(tx, "access", str(requested.get("access_id", "")))
            if rule["share_id"] != share["id"]:
                raise store.missing("access", rule["id"])
            mine = req.is_admin or rule["user_id"] == req.caller.user_id
            if rule["lock_deletion"] and not (mine and requested.get("unrestrict") is True):
                raise Forbidden(reason=f"Access rule {rule['id']} is locked against deletion.")
            store.remove(tx, rule["id"])

        self._db.run(work)
        return Response(202)

    def listed(self, req: CompanionRequest, _requested: Record) -> Response:
        return Response(200, {"access_list": self._of(req, req.params["id"])})

    def index(self, req: CompanionRequest) -> Response:
        share_id = req.one("share_id")
        if not share_id:
            raise Invalid(reason="share_id is required.")
        return Response(200, {"access_list": self._of(req, share_id)})

    def show(self, req: CompanionRequest) -> Response:
        def work(tx: Connection) -> Record:
            rule = store.get(tx, "access", req.params["id"])
            self._see(tx, req, rule["share_id"])
            return _polled_at(tx, rule)

        return Response(200, {"access": _shown(req, self._db.run(work))})

    def _of(self, req: CompanionRequest, share_id: str) -> list[Record]:
        def work(tx: Connection) -> list[Record]:
            share = self._see(tx, req, share_id)
            return [_polled_at(tx, one) for one in store.search(tx, "access", parent_id=share["id"])]

        return [_shown(req, one) for one in self._db.run(work)]


def _polled_at(tx: Connection, rule: Record) -> Record:
    """The rule, a step further than at the last poll."""
    left = rule["looks"] - 1
    return rule if left < 0 else store.change(tx, rule, {"looks": left, "state": _state(left, rule["refused"])})


def _state(looks: int, refused: bool) -> str:
    if looks > 0:
        return "applying" if looks == 1 else "queued_to_apply"
    return "error" if refused else "active"


def _demand_network(text: str) -> None:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        raise Invalid(reason=f"Invalid IP address or network: {text[:50]}") from None


def _shown(req: CompanionRequest, rule: Record) -> dict[str, Any]:
    """The rule. One with `lock_visibility` shows its address only to administrators and to the user that made it."""
    keys = ("id", "share_id", "access_type", "access_to", "access_level", "access_key", "metadata", "state",
            "created_at", "updated_at", "lock_deletion", "lock_visibility")  # fmt: skip
    shown = {key: rule[key] for key in keys}
    if rule["lock_visibility"] and not (req.is_admin or rule["user_id"] == req.caller.user_id):
        shown |= {"access_to": HIDDEN, "access_key": HIDDEN}
    return shown
