"""Shares of servers that are off: attached and detached.

Order of an attach: 1. the share is read; 2. cell: it is stored among the server's, and an operation is open for its
host (one transaction); 3. the host is woken, and gets access to it. Killed after 2: the host finds the operation.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import uuid4

from api_cell.caller import Caller
from api_cell.servers import act, find
from api_cell.servers.able import demand_able_before
from api_cell.servers.act import Doing
from api_cell.services import Services
from cell_service.errors import (
    InstanceNotReady,
    ShareAttached,
    ShareMappingNotFound,
    ShareTagTaken,
    ShareUnavailable,
)
from cell_service.model.instance import Instance
from cell_service.model.share import ShareMapping, ShareStatus, of_share
from cell_service.operations.rule import begin
from cell_service.operations.shares import ATTACH_SHARE, DETACH_SHARE, ShareArguments
from cell_service.peers.shares import CEPHFS, NFS
from mapping_db.cloud import Cloud

RULE = "os_compute_api:os-server-shares:"
ATTACH = Doing(ATTACH_SHARE, RULE + "create")
DETACH = Doing(DETACH_SHARE, RULE + "delete")


def attach(
    cloud: Cloud, services: Services, caller: Caller, server_id: str, share_id: str, tag: str | None
) -> ShareMapping:
    """The share will be the server's. Answers it as it is at once.

    Raises InstanceNotFound, ShareNotFound, ShareUnavailable, ShareAttached, ShareTagTaken, InstanceInvalidState,
    InstanceIsLocked, Forbidden, PeerUnavailable.
    """
    _demand(cloud, caller, server_id, ATTACH)
    share = services.require_shares().get(caller.ctx, share_id)
    if share.status != "available":
        raise ShareUnavailable(share_id=share_id, reason=f"its status is {share.status}")
    if share.proto not in (NFS, CEPHFS):
        raise ShareUnavailable(share_id=share_id, reason=f"its protocol {share.proto} is not supported")
    if not share.export_location:
        raise ShareUnavailable(share_id=share_id, reason="it has no export location")
    new = ShareMapping(
        str(uuid4()), share.id, tag or share.id, ShareStatus.ATTACHING, share.export_location, share.proto
    )

    def prepare(instance: Instance) -> tuple[ShareArguments, dict[str, Any]]:
        if of_share(instance.shares, new.share_id) is not None:
            raise ShareAttached(share_id=new.share_id, instance_uuid=server_id)
        if any(one.tag == new.tag for one in instance.shares):
            raise ShareTagTaken(tag=new.tag, instance_uuid=server_id)
        return ShareArguments(new.uuid), {"shares": (*instance.shares, new)}

    act.begin(cloud, caller, server_id, ATTACH, prepare)
    return new


def detach(cloud: Cloud, caller: Caller, server_id: str, share_id: str) -> None:
    """The share will not be the server's any more. Requested again: the same.

    Raises InstanceNotFound, ShareMappingNotFound, InstanceInvalidState, InstanceIsLocked.
    """

    def prepare(instance: Instance) -> tuple[ShareArguments, dict[str, Any]]:
        old = demand_mapping(instance, share_id)
        going = replace(old, status=ShareStatus.DETACHING)
        return ShareArguments(old.uuid), {"shares": tuple(going if one is old else one for one in instance.shares)}

    act.begin(cloud, caller, server_id, DETACH, prepare)


def demand_mapping(instance: Instance, share_id: str) -> ShareMapping:
    """Raises ShareMappingNotFound."""
    found = of_share(instance.shares, share_id)
    if found is None:
        raise ShareMappingNotFound(share_id=share_id, instance_uuid=instance.uuid)
    return found


def _demand(cloud: Cloud, caller: Caller, server_id: str, doing: Doing) -> None:
    """Check the server before the share service is called."""
    found = find.server(cloud, caller.ctx, server_id)
    instance = found.instance
    caller.demand(doing.rule, find.target(instance))
    act.demand_unlocked(caller.ctx, instance)
    begin(doing.operation, instance.state, server_id)
    if found.cell is None or instance.host is None:
        raise InstanceNotReady(instance_uuid=server_id)
    demand_able_before(caller.ctx, found, doing.operation)
