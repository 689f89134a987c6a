"""Trunks: a parent port, and subports whose traffic travels in VLANs of the parent's.

A trunk's status follows from its ports: DOWN while the parent is not active, ACTIVE when all subports are as well,
DEGRADED when the parent alone is. Subports go to the host that the parent is bound to; they become active where
packets are moved for that host.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from cell_service.db.sql.engine import Database
from cell_service.errors import Conflict, NotFound
from cell_service.http.response import Response
from tools.companions.network import store
from tools.companions.network.errors import bad, not_found, refusal
from tools.companions.network.nouns import REQUIRED, Attr, Noun, Record
from tools.companions.network.records import Records
from tools.companions.route import CompanionRequest, CompanionRoute

VLAN, INHERIT = "vlan", "inherit"
VLAN_IDS = range(1, 4095)
SUBPORT = "trunk:subport"
"""The device owner of subports."""
Bind = Callable[[Record, str], Record]
"""Gives the binding of a port that is bound to that host."""


class Trunks:
    """`bind`: where subports go when their parent goes there."""

    def __init__(self, bind: Bind) -> None:
        self._bind = bind

    def noun(self) -> Noun:
        return Noun("trunk", ATTRS, making=self._making, removing=self._removing, complete=_complete)

    def add(self, tx: Connection, req: CompanionRequest, trunk: Record, given: list[Record]) -> None:
        """Add these subports to the trunk. Raises Invalid, NotFound, Conflict."""
        _demand_enabled(trunk)
        added = _checked(tx, req, trunk, given)
        store.change(tx, trunk, {"sub_ports": [*trunk["sub_ports"], *added]})
        self._join(tx, trunk, added)

    def remove(self, tx: Connection, trunk: Record, given: list[Record]) -> None:
        """Raises NotFound, Conflict."""
        _demand_enabled(trunk)
        gone = [one["port_id"] for one in given]
        for port_id in gone:
            if port_id not in [one["port_id"] for one in trunk["sub_ports"]]:
                message = f"SubPort on trunk {trunk['id']} with parent port {port_id} could not be found."
                raise refusal(NotFound, "SubPortNotFound", message)
        store.change(tx, trunk, {"sub_ports": [one for one in trunk["sub_ports"] if one["port_id"] not in gone]})
        self._leave(tx, gone)

    def _making(self, tx: Connection, req: CompanionRequest, trunk: Record) -> None:
        port = _port_of(tx, req, trunk["port_id"])
        if uses_of(tx, port["id"])[1] is not None:
            raise refusal(Conflict, "TrunkPortInUse", f"Port {port['id']} is in use by another trunk.")
        if uses_of(tx, port["id"])[0] is not None or port["binding:host_id"]:
            raise _parent_in_use(port["id"])
        trunk |= {
            "parent_id": port["id"],
            "sub_ports": _checked(tx, req, trunk | {"sub_ports": []}, trunk["sub_ports"]),
        }
        self._join(tx, trunk, trunk["sub_ports"])

    def _removing(self, tx: Connection, req: CompanionRequest, trunk: Record) -> None:
        _demand_enabled(trunk)
        port = store.find(tx, "port", trunk["port_id"])
        if port is not None and port["binding:host_id"]:
            raise refusal(Conflict, "TrunkInUse", f"Trunk {trunk['id']} is currently in use.")
        self._leave(tx, [one["port_id"] for one in trunk["sub_ports"]])

    def _join(self, tx: Connection, trunk: Record, subports: list[Record]) -> None:
        parent = store.find(tx, "port", trunk["port_id"]) or {}
        for port_id in (one["port_id"] for one in subports):
            port = store.find(tx, "port", port_id)
            if port is not None:
                where = self._bind(port, parent.get("binding:host_id") or "")
                store.change(tx, port, {**where, "device_owner": SUBPORT})

    def _leave(self, tx: Connection, port_ids: list[str]) -> None:
        for port_id in port_ids:
            port = store.find(tx, "port", port_id)
            if port is not None:
                store.change(tx, port, {**self._bind(port, ""), "device_owner": ""})


class Subports:
    """The handlers of a trunk's subports."""

    def __init__(self, db: Database, trunks: Trunks, records: Records) -> None:
        self._db, self._trunks, self._records = db, trunks, records

    def routes(self) -> tuple[CompanionRoute, ...]:
        one = "/v2.0/trunks/{id}"
        return (
            CompanionRoute("GET", f"{one}/get_subports", self.index),
            CompanionRoute("PUT", f"{one}/add_subports", self.add),
            CompanionRoute("PUT", f"{one}/remove_subports", self.remove),
        )

    def index(self, req: CompanionRequest) -> Response:
        with self._db.connect() as tx:
            return Response(200, {"sub_ports": self._records.visible(tx, req, req.params["id"])["sub_ports"]})

    def add(self, req: CompanionRequest) -> Response:
        given = _given(req)
        return self._changed(req, lambda tx, trunk: self._trunks.add(tx, req, trunk, given))

    def remove(self, req: CompanionRequest) -> Response:
        given = _given(req)
        return self._changed(req, lambda tx, trunk: self._trunks.remove(tx, trunk, given))

    def _changed(self, req: CompanionRequest, change: Callable[[Connection, Record], None]) -> Response:
        def work(tx: Connection) -> Record:
            self._records.own(tx, req, req.params["id"])
            change(tx, store.find(tx, "trunk", req.params["id"]) or {})
            return self._records.visible(tx, req, req.params["id"])

        trunk = self._db.run(work)
        self._records.noun.written([trunk])
        return Response(200, self._records.shown(req, trunk))


def uses_of(tx: Connection, port_id: str) -> tuple[Record | None, Record | None]:
    """The trunk whose parent the port is, and the one whose subport it is."""
    trunks = store.search(tx, "trunk")
    of_parent = next((one for one in trunks if one["port_id"] == port_id), None)
    has_subport = (one for one in trunks if any(sub["port_id"] == port_id for sub in one["sub_ports"]))
    return of_parent, next(has_subport, None)


def demand_in_none(tx: Connection, port: Record) -> None:
    """Raises Conflict for a port that a trunk has."""
    parent_of, subport_of = uses_of(tx, port["id"])
    if parent_of is not None:
        message = f"Port {port['id']} is currently a parent port for trunk {parent_of['id']}."
        raise refusal(Conflict, "PortInUseAsTrunkParent", message)
    if subport_of is not None:
        message = f"Port {port['id']} is currently a subport for trunk {subport_of['id']}."
        raise refusal(Conflict, "PortInUseAsSubPort", message)


def follow(tx: Connection, port: Record, host: str, bind: Bind) -> None:
    """Move the subports of the port's trunk, if it has one, to the host that the port goes to."""
    trunk = next(iter(store.search(tx, "trunk", parent_id=[port["id"]])), None)
    for one in trunk["sub_ports"] if trunk is not None else ():
        subport = store.find(tx, "port", one["port_id"])
        if subport is not None:
            store.change(tx, subport, bind(subport, host))


def complete_ports(tx: Connection, ports: list[Record]) -> None:
    """Show on parents their trunk and its subports."""
    trunks = {trunk["port_id"]: trunk for trunk in store.search(tx, "trunk")}
    mine = [trunks[port["id"]] for port in ports if port["id"] in trunks]
    wanted = sorted({one["port_id"] for trunk in mine for one in trunk["sub_ports"]})
    macs = {one["id"]: one["mac_address"] for one in store.search(tx, "port", id=wanted)} if wanted else {}
    for port in ports:
        trunk = trunks.get(port["id"])
        if trunk is not None:
            subports = [{**one, "mac_address": macs.get(one["port_id"])} for one in trunk["sub_ports"]]
            port["trunk_details"] = {"trunk_id": trunk["id"], "sub_ports": subports}


def _complete(tx: Connection, trunks: list[Record]) -> None:
    wanted = {port_id for one in trunks for port_id in (one["port_id"], *(sub["port_id"] for sub in one["sub_ports"]))}
    active = {port["id"]: port["status"] == "ACTIVE" for port in store.search(tx, "port", id=sorted(wanted))}
    for trunk in trunks:
        if not active.get(trunk["port_id"]):
            trunk["status"] = "DOWN"
        else:
            whole = all(active.get(one["port_id"]) for one in trunk["sub_ports"])
            trunk["status"] = "ACTIVE" if whole else "DEGRADED"


def _given(req: CompanionRequest) -> list[Record]:
    """The subports in the body. Raises Invalid."""
    found = req.body.get("sub_ports") if isinstance(req.body, dict) else None
    if not isinstance(found, list) or not found:
        raise bad("Invalid data format for subports: a list of them must be under the key 'sub_ports'.")
    for one in found:
        if not isinstance(one, dict) or not isinstance(one.get("port_id"), str):
            raise bad("Invalid input for subports: a valid port UUID must be specified.")
        odd = sorted(set(one) - {"port_id", "segmentation_type", "segmentation_id"})
        if odd:
            raise bad(f"Invalid input for subports: unrecognized attribute(s) {', '.join(odd)}.")
    return found


def _checked(tx: Connection, req: CompanionRequest, trunk: Record, given: list[Record]) -> list[Record]:
    """The subports with their segments, all of which the trunk may have. Raises Invalid, NotFound, Conflict."""
    parent = _port_of(tx, req, trunk["port_id"])
    used = {one["segmentation_id"] for one in trunk["sub_ports"]}
    found: list[Record] = []
    for one in given:
        port_id = one["port_id"]
        if port_id == parent["id"]:
            raise _parent_in_use(port_id)
        if any(other["port_id"] == port_id for other in found):
            raise bad(f"Invalid input for subports: port {port_id} is named twice.")
        port = _port_of(tx, req, port_id)
        segment = _segment(tx, one, port)
        if any(other["segmentation_id"] == segment for other in found):
            raise bad(f"Invalid input for subports: segmentation_id {segment} is named twice.")
        if segment in used:
            message = f"segmentation_type {VLAN} and segmentation_id {segment} already in use on trunk {trunk['id']}."
            raise refusal(Conflict, "DuplicateSubPort", message)
        _demand_mtu(tx, trunk, parent, port)
        parent_of, subport_of = uses_of(tx, port_id)
        if subport_of is not None:
            raise refusal(Conflict, "TrunkPortInUse", f"Port {port_id} is in use by another trunk.")
        if parent_of is not None:
            raise _parent_in_use(port_id)
        if port["device_id"]:
            message = (
                f"Unable to complete operation on port {port_id} for network {port['network_id']}. Port already has an "
                f"attached device {port['device_id']}."
            )
            raise refusal(Conflict, "PortInUse", message)
        found.append({"port_id": port_id, "segmentation_type": VLAN, "segmentation_id": segment})
    return found


def _segment(tx: Connection, one: Record, port: Record) -> int:
    """The VLAN of a subport: the one that is given, or its network's own. Raises Invalid."""
    kind, text = one.get("segmentation_type"), one.get("segmentation_id")
    if kind == INHERIT:
        network = store.find(tx, "network", port["network_id"]) or {}
        kind, text = network.get("provider:network_type"), network.get("provider:segmentation_id")
    elif kind is None or text is None:
        words = "missing segmentation information. Must specify both segmentation_id and segmentation_type"
        raise bad(f"Invalid subport details '{one}': {words}")
    if kind != VLAN:
        raise bad(f"Unknown segmentation_type '{kind}'")
    if isinstance(text, bool) or not str(text).isdecimal():
        raise bad(f"Invalid subport details: segmentation_id '{text}' is not an integer")
    if len(str(text)) > 9 or int(str(text)) not in VLAN_IDS:
        raise bad(f"Segmentation ID '{text}' is not in range")
    return int(str(text))


def _demand_mtu(tx: Connection, trunk: Record, parent: Record, port: Record) -> None:
    ids = (parent["network_id"], port["network_id"])
    most, mtu = ((store.find(tx, "network", one) or {}).get("mtu") for one in ids)
    if most and mtu and mtu > most:
        message = f"MTU {mtu} of subport {port['id']} cannot be greater than MTU {most} of trunk {trunk['id']}."
        raise refusal(Conflict, "SubPortMtuGreaterThanTrunkPortMtu", message)


def _port_of(tx: Connection, req: CompanionRequest, port_id: Any) -> Record:
    """Raises NotFound unless the caller may see the port."""
    port = store.find(tx, "port", port_id)
    if port is None or (port["project_id"] != req.caller.project_id and not req.is_admin):
        raise not_found("port", port_id)
    return port


def _parent_in_use(port_id: str) -> Exception:
    message = f"Port {port_id} is currently in use and is not eligible for use as a parent port."
    return refusal(Conflict, "ParentPortInUse", message)


def _demand_enabled(trunk: Record) -> None:
    """Raises Conflict: a trunk that is administratively down stays as it is."""
    if not trunk["admin_state_up"]:
        raise refusal(Conflict, "TrunkDisabled", f"Trunk {trunk['id']} is currently disabled.")


ATTRS = {
    "name": Attr(),
    "description": Attr("text?", ""),
    "port_id": Attr("text", REQUIRED, fixed=True),
    "admin_state_up": Attr("bool", True),
    "sub_ports": Attr("subports", [], fixed=True),
    "status": Attr("text", "DOWN", computed=True),
}
