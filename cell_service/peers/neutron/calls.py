"""Records of the network service, read and written; its refusals turned into our errors."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from cell_service.context import Context
from cell_service.errors import Conflict, Forbidden, Invalid, NotFound, OverQuota, PeerUnavailable, PolycellError
from cell_service.peers.network import Noun, Record
from cell_service.peers.session import Peer, Reply

log = logging.getLogger(__name__)

__all__ = ["Calls", "Noun", "Record"]

_KEYS = {
    "security-groups": "security_groups",
    "security-group-rules": "security_group_rules",
    "rbac-policies": "rbac_policies",
    "qos/policies": "policies",
}
_IDS_A_REQUEST = 50
LASTING_SECONDS = 5.0
MOST_LASTING = 2000


class Calls:
    """The few verbs of the Network API. Raises PeerUnavailable, and Invalid, Conflict, OverQuota where it refuses."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._extensions: frozenset[str] | None = None
        self._lasting: dict[str, tuple[float, Record]] = {}

    def extensions(self, ctx: Context) -> frozenset[str]:
        """The aliases of the service's extensions; requested once."""
        if self._extensions is None:
            reply = self._peer.ask(ctx, "GET", "/extensions")
            self._extensions = frozenset(extension["alias"] for extension in _good(reply)["extensions"])
        return self._extensions

    def find_all(self, ctx: Context, noun: Noun, **query: object) -> list[Record]:
        """All records that fit; a list of values means any of them."""
        key = _KEYS.get(noun, noun)
        found: list[Record] = list(_good(self._peer.ask(ctx, "GET", f"/{noun}", query=query))[key])
        return found

    def lasting(self, ctx: Context, noun: Noun, ids: Sequence[str]) -> dict[str, Record]:
        """Those of the networks, subnets or security groups that exist, by id; up to LASTING_SECONDS old.

        A network without subnets is requested again each time: it will soon have one.
        """
        now = ctx.deadline.clock.monotonic()
        kept = {}
        for record_id in ids:
            until, record = self._lasting.get(record_id, (0.0, {}))
            if now < until:
                kept[record_id] = record
        for record in self._by_ids(ctx, noun, [record_id for record_id in ids if record_id not in kept]):
            kept[record["id"]] = record
            if noun != "networks" or record.get("subnets"):
                if len(self._lasting) >= MOST_LASTING:
                    self._lasting.clear()
                self._lasting[record["id"]] = (now + LASTING_SECONDS, record)
        return kept

    def _by_ids(self, ctx: Context, noun: Noun, ids: Sequence[str]) -> list[Record]:
        found = []
        for start in range(0, len(ids), _IDS_A_REQUEST):
            found += self.find_all(ctx, noun, id=list(ids[start : start + _IDS_A_REQUEST]))
        return found

    def find(self, ctx: Context, noun: Noun, record_id: str) -> Record | None:
        """The record; None where there is none of that id. Any text is a valid id here."""
        found = self.find_all(ctx, noun, id=record_id) if record_id.isprintable() and record_id else []
        return found[0] if found else None

    def create(self, ctx: Context, noun: Noun, fields: Record) -> Record:
        singular = _singular(noun)
        created: Record = _good(self._peer.ask(ctx, "POST", f"/{noun}", body={singular: fields}))[singular]
        return created

    def update(
        self,
        ctx: Context,
        noun: Noun,
        record_id: str,
        fields: Record,
        *,
        revision: int | None = None,
        missing_is_fine: bool = False,
    ) -> Record | None:
        """Change the record. Returns it as it is then; None when it is at another revision, or missing where that is
        fine."""
        singular = _singular(noun)
        headers = {} if revision is None else {"If-Match": f"revision_number={revision}"}
        reply = self._peer.ask(ctx, "PUT", f"/{noun}/{record_id}", body={singular: fields}, headers=headers)
        if reply.status == 412 or (reply.status == 404 and missing_is_fine):
            return None
        updated: Record = _good(reply)[singular]
        return updated

    def change(self, ctx: Context, noun: Noun, record_id: str, fields: Record) -> Record:
        """Change the record. Returns it as it is then. Raises NotFound."""
        changed = self.update(ctx, noun, record_id, fields)
        assert changed is not None
        return changed

    def delete(self, ctx: Context, noun: Noun, record_id: str) -> None:
        """Delete the record. No such record: no error."""
        reply = self._peer.ask(ctx, "DELETE", f"/{noun}/{record_id}")
        if reply.status != 404:
            _good(reply)

    def quota(self, ctx: Context, project_id: str, noun: Noun) -> tuple[int, int]:
        """The project's limit (-1 for none), and how many it has."""
        resource = _singular(noun)
        if "quota_details" in self.extensions(ctx):
            whole = _good(self._peer.ask(ctx, "GET", f"/quotas/{project_id}/details"))["quota"].get(resource)
            return (int(whole["limit"]), int(whole["used"]) + int(whole.get("reserved", 0))) if whole else (-1, 0)
        limit = _good(self._peer.ask(ctx, "GET", f"/quotas/{project_id}"))["quota"].get(resource, -1)
        if limit is None or int(limit) < 0:
            return -1, 0
        return int(limit), len(self.find_all(ctx, noun, project_id=project_id, fields="id"))

    def auto_topology(self, ctx: Context, project_id: str) -> str:
        """The id of the network that the service makes for a project without one."""
        reply = self._peer.ask(ctx, "GET", f"/auto-allocated-topology/{project_id}")
        if reply.status == 404:
            raise Invalid(reason="The network service cannot allocate a network by itself.")
        return str(_good(reply)["auto_allocated_topology"]["id"])


def _singular(noun: Noun) -> str:
    return _KEYS.get(noun, noun).removesuffix("s")


def _good(reply: Reply) -> Record:
    if reply.ok:
        return reply.json if isinstance(reply.json, dict) else {}
    raise _refusal(reply)


def _refusal(reply: Reply) -> PolycellError:
    error = reply.json.get("NeutronError") if isinstance(reply.json, dict) else None
    kind, message = (str(error.get("type", "")), str(error.get("message", ""))) if isinstance(error, dict) else ("", "")
    if kind == "OverQuota":
        return OverQuota(resources="port", requested=1, used="all", limit="its limit")
    if reply.status == 400:
        return Invalid(reason=message or "The network service refuses the request.")
    if reply.status == 409:
        return Conflict(reason=message or "The network service refuses the request now.")
    if reply.status == 404 and kind:
        return NotFound(reason=message)
    if reply.status == 403:
        log.warning("the network service forbids a request: %s", message or kind)
        return Forbidden(reason="The network service forbids the request.")
    return PeerUnavailable(service="network", reason=f"it answered {reply.status} {kind}".rstrip())
