"""The shared file system service over HTTP (Shared File Systems API v2, access rules as of microversion 2.82)."""

from __future__ import annotations

import contextlib
from typing import Any
from uuid import UUID

from cell_service.context import Context
from cell_service.errors import PeerUnavailable, ShareNotFound, ShareUnavailable
from cell_service.peers.session import Peer, Reply
from cell_service.peers.settings import ManilaSettings
from cell_service.peers.shares import Access, AccessState, Share, Shares

MICROVERSION = {"OpenStack-API-Version": "shared-file-system 2.82", "X-OpenStack-Manila-API-Version": "2.82"}
MARK = "compute_host"
"""The key in a rule's metadata of the host that it was made for."""
_STATES = {"active": AccessState.ACTIVE, "error": AccessState.ERROR}


def open_shares(settings: ManilaSettings) -> Shares:
    """Shares of the service that `[manila]` names; nothing is connected yet."""
    return Manila(Peer("share", settings, "/v2", MICROVERSION))


class Manila:
    """Sends requests as an administrator, and so decides itself what a request's project may see."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def get(self, ctx: Context, share_id: str) -> Share:
        with contextlib.suppress(ValueError):
            reply = self._peer.ask(ctx, "GET", f"/shares/{UUID(share_id)}")
            if reply.ok:
                share = _share(reply.json["share"], self._export_location(ctx, share_id))
                if ctx.is_admin or share.is_public or share.project_id == ctx.project_id:
                    return share
            elif reply.status not in (400, 403, 404):
                raise _refused(reply, share_id)
        raise ShareNotFound(share_id=share_id)

    def allow(self, ctx: Context, share_id: str, access: Access) -> AccessState:
        rule = self._rule(ctx, share_id, access)
        if rule is None:
            wanted = {
                "access_type": access.kind, "access_to": access.to, "access_level": "rw",
                "metadata": {MARK: access.mark}, "lock_visibility": True, "lock_deletion": True,
                "lock_reason": "used by compute",
            }  # fmt: skip
            reply = self._peer.ask(ctx, "POST", f"/shares/{share_id}/action", body={"allow_access": wanted})
            rule = _good(reply, share_id)["access"]
        return _STATES.get(str(rule["state"]), AccessState.WAITING)

    def deny(self, ctx: Context, share_id: str, access: Access) -> None:
        with contextlib.suppress(ShareNotFound):
            rule = self._rule(ctx, share_id, access)
            if rule is None or (rule.get("metadata") or {}).get(MARK) != access.mark:
                return
            body = {"deny_access": {"access_id": rule["id"], "unrestrict": True}}
            _good(self._peer.ask(ctx, "POST", f"/shares/{share_id}/action", body=body), share_id)

    def _rule(self, ctx: Context, share_id: str, access: Access) -> dict[str, Any] | None:
        """The rule that grants this access, unless it is being removed. Raises ShareNotFound."""
        reply = self._peer.ask(ctx, "GET", "/share-access-rules", query={"share_id": share_id})
        found = _good(reply, share_id)["access_list"]
        key = (access.kind, access.to)
        return next((dict(one) for one in found if (one["access_type"], one["access_to"]) == key
                     and one["state"] not in ("denying", "queued_to_deny")), None)  # fmt: skip

    def _export_location(self, ctx: Context, share_id: str) -> str | None:
        reply = self._peer.ask(ctx, "GET", f"/shares/{share_id}/export_locations")
        if not reply.ok:
            return None
        found = sorted(reply.json["export_locations"], key=lambda one: not one.get("preferred"))
        return next((str(one["path"]) for one in found if not one.get("is_admin_only")), None)


def _share(record: dict[str, Any], export_location: str | None) -> Share:
    return Share(
        id=record["id"],
        project_id=record.get("project_id") or "",
        status=record["status"],
        proto=str(record.get("share_proto") or "").upper(),
        is_public=bool(record.get("is_public")),
        export_location=export_location,
    )


def _good(reply: Reply, share_id: str) -> dict[str, Any]:
    if reply.ok:
        return reply.json if isinstance(reply.json, dict) else {}
    raise _refused(reply, share_id)


def _refused(reply: Reply, share_id: str) -> Exception:
    faults = reply.json.values() if isinstance(reply.json, dict) else ()
    words = next((str(one.get("message", "")) for one in faults if isinstance(one, dict)), "")
    if reply.status == 404:
        return ShareNotFound(share_id=share_id)
    if reply.status in (400, 403, 409, 413):
        return ShareUnavailable(share_id=share_id, reason=words or "its service refuses the request")
    return PeerUnavailable(service="share", reason=f"it answered {reply.status}")
