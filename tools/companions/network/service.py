"""The network companion (Network API v2.0): records, and where hosts have namespaces, packets that move."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from api_cell.edge.auth import Authenticator
from cell_service.db.sql.engine import Database
from cell_service.errors import Invalid, WiringFailed
from cell_service.http.response import Response
from cell_service.logs import about
from tools.companions.app import Companion, CompanionApi
from tools.companions.network import store
from tools.companions.network.errors import not_found, rendered
from tools.companions.network.events import Notifier, Notify
from tools.companions.network.groups import GROUP, RULE
from tools.companions.network.nouns import Noun
from tools.companions.network.ports import NETWORK, SUBNET, VIF_DETAILS, Ports
from tools.companions.network.qos import POLICY, tag_routes
from tools.companions.network.qos_rules import Rules
from tools.companions.network.quotas import Quotas
from tools.companions.network.records import Records
from tools.companions.network.routers import FLOATING, ROUTER, Interfaces
from tools.companions.network.trunks import Subports, Trunks
from tools.companions.network.wiring.bindings import settled, triggering
from tools.companions.network.wiring.dhcp_port import ensure_dhcp_port
from tools.companions.network.wiring.loop import Wiring
from tools.companions.network.wiring.settings import WiringSettings
from tools.companions.route import CompanionRequest, CompanionRoute
from tools.companions.store import open_store

log = logging.getLogger(__name__)

EXTENSIONS = {
    "address-scope": "Address scope",
    "agent": "agent",
    "auto-allocated-topology": "Auto Allocated Topology Services",
    "availability_zone": "Availability Zone",
    "binding": "Port Binding",
    "default-subnetpools": "Default Subnetpools",
    "dns-integration": "DNS Integration",
    "external-net": "Neutron external network",
    "extra_dhcp_opt": "Neutron Extra DHCP options",
    "net-mtu": "Network MTU",
    "net-mtu-writable": "Network MTU (writable)",
    "network_availability_zone": "Network Availability Zone",
    "pagination": "Pagination support",
    "port-security": "Port Security",
    "port-resource-request": "Port Resource Request",
    "port-resource-request-groups": "Port Resource Request Groups",
    "project-id": "project_id field enabled",
    "provider": "Provider Network",
    "qos": "Quality of Service",
    "qos-bw-limit-direction": "Direction for QoS bandwidth limit rule",
    "qos-bw-minimum-ingress": "Ingress direction for QoS minimum bandwidth rule",
    "qos-default": "QoS default policy",
    "qos-fip": "Floating IP QoS",
    "qos-port-network-policy": "QoS port network policy",
    "qos-pps-minimum": "QoS minimum packet rate rule",
    "qos-pps-minimum-rule-alias": "QoS minimum packet rate rule alias",
    "qos-rule-type-details": "Details of QoS rule types",
    "qos-rule-type-filter": "QoS rule type filter",
    "qos-rules-alias": "QoS rules alias",
    "quotas": "Quota management support",
    "quota_details": "Quota details management support",
    "revision-if-match": "If-Match constraints based on revision_number",
    "router": "Neutron L3 Router",
    "security-group": "security-group",
    "security-groups-normalized-cidr": "Normalized CIDR field for security group rules",
    "sorting": "Sorting support",
    "standard-attr-description": "standard-attr-description",
    "standard-attr-revisions": "Resource revision numbers",
    "standard-attr-tag": "Tag support for resources with standard attribute",
    "standard-attr-timestamp": "Resource timestamps",
    "stateful-security-group": "Stateful security group",
    "trunk": "Trunk Extension",
    "trunk-details": "Trunk port details",
}
UPDATED = "2026-01-01T00:00:00-00:00"
AUTO_NAME = "auto_allocated_network"
AUTO_CIDR = "10.64.0.0/24"


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """`vif_type`: what hosts are to plug (ovs, bridge)."""

    vif_type: str = "ovs"


def make_network(
    state_dir: Path,
    authenticator: Authenticator,
    settings: NetworkSettings | None = None,
    wiring_settings: WiringSettings | None = None,
    notify: Notify | None = None,
) -> Companion:
    """The service on the data of that directory. Without rights for wiring, it says so and keeps records only.
    `notify`: passes on to compute what changed of servers' addresses.

    Raises Invalid for a vif_type that it doesn't know.
    """
    settings = settings or NetworkSettings()
    if settings.vif_type not in VIF_DETAILS:
        raise Invalid(reason=f"The vif_type must be one of {', '.join(VIF_DETAILS)}, not {settings.vif_type!r}.")
    db = open_store(state_dir, "network", store.metadata)
    wiring = _wiring(wiring_settings, db, state_dir / "wiring")
    notifier = Notifier(notify, db) if notify is not None else None
    kept_ports = Ports(settings.vif_type, wiring)
    floating, ports, trunks = FLOATING, kept_ports.noun(), Trunks(kept_ports.bound)
    if notifier is not None:
        floating, ports = notifier.floating(floating), notifier.ports(ports)
    nouns: tuple[Noun, ...] = (NETWORK, SUBNET, GROUP, RULE, ROUTER, floating, POLICY, trunks.noun())
    if wiring is not None:
        nouns, ports = tuple(triggering(noun, wiring) for noun in nouns), settled(ports, wiring, db)
    nouns = (*nouns[:2], ports, *nouns[2:])
    records = {noun.name: Records(noun, db) for noun in nouns}
    routes = (
        *_Thin(db, records).routes(),
        *Quotas(db).routes(),
        *Interfaces(db, records["router"], records["port"]).routes(),
        *Rules(db, records[POLICY.name]).routes(),
        *tag_routes(records[POLICY.name]),
        *Subports(db, trunks, records["trunk"]).routes(),
        *(route for kept in records.values() for route in kept.routes()),
    )

    def close() -> None:
        if notifier is not None:
            notifier.stop()
        if wiring is not None:
            wiring.stop()
        db.dispose()

    return Companion(CompanionApi("network", routes, rendered, authenticator, close=close))


def _wiring(settings: WiringSettings | None, db: Database, directory: Path) -> Wiring | None:
    if settings is None or not settings.enabled:
        return None
    wiring = Wiring(settings, db, directory, ensure_dhcp_port)
    try:
        wiring.start()
    except WiringFailed as error:
        log.warning("no packets are moved", extra=about(None, reason=error))
        return None
    return wiring


class _Thin:
    """Versions, extensions, agents, zones, and the topology that is made for projects without a network."""

    def __init__(self, db: Database, records: dict[str, Records]) -> None:
        self._db, self._records = db, records

    def routes(self) -> tuple[CompanionRoute, ...]:
        return (
            CompanionRoute("GET", "/", self.choices, open=True),
            CompanionRoute("GET", "/v2.0", self.resources, open=True),
            CompanionRoute("GET", "/v2.0/extensions", self.extensions),
            CompanionRoute("GET", "/v2.0/extensions/{alias}", self.extension),
            CompanionRoute("GET", "/v2.0/agents", lambda req: Response(200, {"agents": []})),
            CompanionRoute("GET", "/v2.0/availability_zones", self.zones),
            CompanionRoute("GET", "/v2.0/auto-allocated-topology/{project}", self.topology),
        )

    def choices(self, req: CompanionRequest) -> Response:
        link = {"rel": "self", "href": f"{req.origin}/v2.0/"}
        return Response(200, {"versions": [{"id": "v2.0", "status": "CURRENT", "links": [link]}]})

    def resources(self, req: CompanionRequest) -> Response:
        shown = [
            {
                "name": kept.noun.singular,
                "collection": kept.noun.plural,
                "links": [{"rel": "self", "href": f"{req.origin}/v2.0/{kept.noun.segment}"}],
            }
            for kept in self._records.values()
        ]
        return Response(200, {"resources": shown})

    def extensions(self, req: CompanionRequest) -> Response:
        return Response(200, {"extensions": [_extension(alias) for alias in EXTENSIONS]})

    def extension(self, req: CompanionRequest) -> Response:
        if req.params["alias"] not in EXTENSIONS:
            raise not_found("extension", req.params["alias"])
        return Response(200, {"extension": _extension(req.params["alias"])})

    def zones(self, req: CompanionRequest) -> Response:
        zones = [{"name": "nova", "resource": kind, "state": "available"} for kind in ("network", "router")]
        return Response(200, {"availability_zones": zones})

    def topology(self, req: CompanionRequest) -> Response:
        """A network of the project's own with one subnet; made at the first call."""
        project_id = req.params["project"]
        if project_id in ("null", "None", ""):
            project_id = req.caller.project_id
        if project_id != req.caller.project_id:
            req.demand_admin()
        if "dry-run" in req.query.get("fields", ()):
            return Response(200, {"auto_allocated_topology": {"id": "dry-run=pass", "tenant_id": project_id}})

        def work(tx: Connection) -> str:
            for network in store.search(tx, "network", project_id=[project_id], name=[AUTO_NAME]):
                return str(network["id"])
            made = self._records["network"].make(tx, req, {"name": AUTO_NAME, "project_id": project_id})
            subnet = {"network_id": made["id"], "cidr": AUTO_CIDR, "ip_version": 4, "project_id": project_id}
            self._records["subnet"].make(tx, req, subnet)
            return str(made["id"])

        shown = {"id": self._db.run(work), "tenant_id": project_id, "project_id": project_id}
        return Response(200, {"auto_allocated_topology": shown})


def _extension(alias: str) -> dict[str, Any]:
    name = EXTENSIONS[alias]
    return {"alias": alias, "name": name, "description": name, "updated": UPDATED, "links": []}
