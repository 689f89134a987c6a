"""The network service over HTTP (Network API v2.0): what a project may use, and the ports of instances.

Compute's own data of a port is stored in its binding profile, which only administrators write and which is written
together with the port: {"polycell": {"created": bool, "index": int, "tag": str}}. So a second run finds what the first
has made, and a delete knows which ports to leave to their owners.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cell_service.context import Context
from cell_service.errors import Conflict, Invalid, PolycellError, PortNotFound
from cell_service.logs import about
from cell_service.model.instance import FixedIp, NetworkRequest, Vif
from cell_service.peers.network import Networks, PortOwner, PortState, Records
from cell_service.peers.neutron import checks
from cell_service.peers.neutron.calls import Calls, Record
from cell_service.peers.session import Peer
from cell_service.peers.settings import NeutronSettings

log = logging.getLogger(__name__)

MARK = "polycell"
KEY = "attach"
ATTEMPTS = 4
IDS_A_REQUEST = 50
DEFAULT_GROUPS = ((), ("default",))


def open_networks(settings: NeutronSettings) -> Networks:
    """Networks of the service that `[neutron]` names; nothing is connected yet."""
    return Neutron(Peer("network", settings, "/v2.0"))


@dataclass(frozen=True, slots=True)
class Binding:
    """The properties that all ports of an instance have in common."""

    instance_uuid: str
    project_id: str
    host: str
    owner: str
    dns_name: str | None

    def fields(self, mark: Record, profile: Record) -> Record:
        """The fields that make a port this instance's."""
        named = {"dns_name": self.dns_name} if self.dns_name else {}
        return {
            "device_id": self.instance_uuid,
            "device_owner": self.owner,
            "binding:host_id": self.host,
            "binding:profile": profile | {MARK: mark},
            **named,
        }


class Neutron:
    """Sends requests as an administrator, and so decides itself what a request's project may use."""

    def __init__(self, peer: Peer) -> None:
        self._calls = Calls(peer)

    @property
    def records(self) -> Records:
        return self._calls

    def validate(
        self,
        ctx: Context,
        requests: Sequence[NetworkRequest],
        security_groups: Sequence[str],
        count: int,
        *,
        attached_to: str | None = None,
        external: bool = False,
    ) -> None:
        checks.validate(self._calls, ctx, requests, security_groups, count, attached_to, external=external)

    def available(self, ctx: Context, project_id: str) -> tuple[str, ...]:
        return tuple(network["id"] for network in checks.available(self._calls, ctx, project_id))

    def shown(self, ctx: Context, project_id: str) -> list[Record]:
        return checks.shown(self._calls, ctx, project_id)

    def allocate(
        self,
        ctx: Context,
        *,
        instance_uuid: str,
        project_id: str,
        host: str,
        availability_zone: str | None,
        hostname: str,
        requests: Sequence[NetworkRequest] | None,
        auto: bool,
        security_groups: Sequence[str],
    ) -> tuple[Vif, ...]:
        mine = self._ports_of(ctx, instance_uuid, project_id)
        wanted = self._wanted(ctx, project_id, requests, auto, mine)
        binding = self._binding(ctx, instance_uuid, project_id, host, availability_zone, hostname)
        groups: list[str] | None = None
        ports: list[Record] = []
        made: list[str] = []
        try:
            for index, request in enumerate(wanted):
                mark: Record = {"index": index, "created": request.port_id is None}
                if request.tag is not None:
                    mark["tag"] = request.tag
                if request.port_id is not None:
                    ports.append(self._bind(ctx, request.port_id, binding, mark))
                    continue
                old = next((port for port in mine if _fits(port, request, index)), None)
                if old is not None:
                    ports.append(self._rebind(ctx, old, binding, mark))
                    continue
                if groups is None and tuple(security_groups) not in DEFAULT_GROUPS:
                    groups = checks.group_ids(self._calls, ctx, project_id, security_groups)
                new = self._create(ctx, request, binding, mark, groups)
                made.append(new["id"])
                ports.append(new)
            self._drop_surplus(ctx, mine, {port["id"] for port in ports})
            return self._vifs(ctx, ports, made)
        except PolycellError:
            self._roll_back(ctx, instance_uuid, made)
            raise

    def plug(
        self,
        ctx: Context,
        *,
        instance_uuid: str,
        project_id: str,
        host: str,
        availability_zone: str | None,
        hostname: str,
        request: NetworkRequest,
        key: str,
    ) -> Vif:
        mine = self._ports_of(ctx, instance_uuid, project_id)
        binding = self._binding(ctx, instance_uuid, project_id, host, availability_zone, hostname)
        done = next((port for port in mine if _mark(port).get(KEY) == key), None)
        if done is not None:
            return self._vifs(ctx, [self._rebind(ctx, done, binding, _mark(done))])[0]
        if any(port["id"] == request.port_id for port in mine):
            raise Conflict(reason=f"Port {request.port_id} is still in use.")
        index = 1 + max((int(_mark(port).get("index", -1)) for port in mine), default=-1)
        mark: Record = {"index": index, "created": request.port_id is None, KEY: key}
        if request.tag is not None:
            mark["tag"] = request.tag
        if request.port_id is not None:
            return self._vifs(ctx, [self._bind(ctx, request.port_id, binding, mark)])[0]
        wanted = self._wanted(ctx, project_id, (request,), False, [])
        if not wanted:
            raise Invalid(reason="No specific network was requested and none are available for the project.")
        port = self._create(ctx, wanted[0], binding, mark, None)
        return self._vifs(ctx, [port], [port["id"]])[0]

    def unplug(self, ctx: Context, instance_uuid: str, port_id: str, *, project_id: str) -> None:
        for port in self._ports_of(ctx, instance_uuid, project_id):
            if port["id"] == port_id:
                self._release(ctx, port)

    def roll_back(self, ctx: Context, instance_uuid: str, key: str, *, project_id: str) -> None:
        for port in self._ports_of(ctx, instance_uuid, project_id):
            if _mark(port).get(KEY) == key:
                self._release(ctx, port)

    def port_states(self, ctx: Context, instance_uuid: str, *, project_id: str) -> tuple[PortState, ...]:
        return tuple(
            PortState(
                port["id"],
                port["network_id"],
                port["mac_address"],
                port.get("status") or "DOWN",
                tuple(
                    FixedIp(entry["ip_address"], 6 if ":" in entry["ip_address"] else 4, entry["subnet_id"])
                    for entry in port.get("fixed_ips", ())
                ),
                _mark(port).get("tag"),
                tuple(port.get("security_groups") or ()),
            )
            for port in self._ports_of(ctx, instance_uuid, project_id)
        )

    def deallocate(self, ctx: Context, instance_uuid: str, *, project_id: str, keep: Sequence[str] = ()) -> None:
        for port in self._ports_of(ctx, instance_uuid, project_id):
            self._release(ctx, port, keep)

    def bind(self, ctx: Context, instance_uuid: str, host: str, *, project_id: str) -> tuple[Vif, ...]:
        bound = []
        for port in self._ports_of(ctx, instance_uuid, project_id):
            if port.get("binding:host_id") == host and port.get("binding:vif_type") not in ("unbound", *_FAILED):
                bound.append(port)
                continue
            if port.get("resource_request"):  # of a policy that it got after its instance had a host
                named = {"instance": instance_uuid, "port": port["id"], "host": host}
                log.warning("resources that a port needs are not claimed", extra=about(ctx, **named))
            after = self._calls.update(ctx, "ports", port["id"], {"binding:host_id": host})
            assert after is not None
            bound.append(_checked(after, host))
        return self._vifs(ctx, bound)

    def unbind(self, ctx: Context, instance_uuid: str, *, project_id: str) -> None:
        for port in self._ports_of(ctx, instance_uuid, project_id):
            if port.get("binding:host_id"):
                self._calls.update(ctx, "ports", port["id"], {"binding:host_id": ""}, missing_is_fine=True)

    def info(self, ctx: Context, instance_uuid: str, *, project_id: str) -> tuple[Vif, ...]:
        return self._vifs(ctx, self._ports_of(ctx, instance_uuid, project_id))

    def infos(self, ctx: Context, projects: Mapping[str, str]) -> dict[str, tuple[Vif, ...]]:
        ports: list[Record] = []
        uuids = list(projects)
        for start in range(0, len(uuids), IDS_A_REQUEST):
            found_ports = self._calls.find_all(ctx, "ports", device_id=uuids[start : start + IDS_A_REQUEST])
            ports += [port for port in found_ports if port["project_id"] == projects[port["device_id"]]]
        found: dict[str, list[Vif]] = {}
        for port, vif in zip(ports, self._vifs(ctx, ports), strict=True):
            found.setdefault(port["device_id"], []).append(vif)
        return {uuid: tuple(vifs) for uuid, vifs in found.items()}

    def owners(self, ctx: Context, address: str) -> tuple[PortOwner, ...]:
        ports = self._calls.find_all(ctx, "ports", fixed_ips=f"ip_address={address}")
        found = {
            PortOwner(port["device_id"], port["project_id"])
            for port in ports
            if port.get("device_id") and str(port.get("device_owner", "")).startswith("compute:")
        }
        return tuple(sorted(found))

    def _binding(
        self,
        ctx: Context,
        instance_uuid: str,
        project_id: str,
        host: str,
        availability_zone: str | None,
        hostname: str,
    ) -> Binding:
        dns_name = hostname.lower()[:63] if hostname and "dns-integration" in self._calls.extensions(ctx) else None
        return Binding(instance_uuid, project_id, host, f"compute:{availability_zone or 'nova'}", dns_name)

    def _release(self, ctx: Context, port: Record, keep: Sequence[str] = ()) -> None:
        """Release the instance's port: delete it if compute made it, unless something else uses it by now."""
        if _mark(port).get("created") and port["id"] not in keep:
            try:
                self._calls.delete(ctx, "ports", port["id"])
            except Conflict as error:  # of a trunk, which a shelved instance's port may have been given to
                log.warning("port is left to its project", extra=about(ctx, port=port["id"], reason=error))
            else:
                return
        self._unbind(ctx, port)

    def _ports_of(self, ctx: Context, instance_uuid: str, project_id: str) -> list[Record]:
        """The instance's ports in the order in which they were requested."""
        ports = self._calls.find_all(ctx, "ports", device_id=instance_uuid, project_id=project_id)
        return sorted(ports, key=lambda port: (_mark(port).get("index", len(ports)), port["id"]))

    def _wanted(
        self,
        ctx: Context,
        project_id: str,
        requests: Sequence[NetworkRequest] | None,
        auto: bool,
        mine: list[Record],
    ) -> list[NetworkRequest]:
        """The requests, each with its network or port. Raises Conflict when a choice would be needed."""
        if requests is None or auto:
            requests = (NetworkRequest(),)
        if all(request.network_id or request.port_id for request in requests):
            return list(requests)
        made = [port for port in mine if _mark(port).get("created")]
        chosen = made[0]["network_id"] if made else checks.chosen(self._calls, ctx, project_id, auto)
        named = []
        for request in requests:
            if request.network_id or request.port_id:
                named.append(request)
            elif chosen is not None:
                named.append(NetworkRequest(chosen, None, request.fixed_ip, request.tag))
        return named

    def _create(
        self, ctx: Context, request: NetworkRequest, binding: Binding, mark: Record, groups: list[str] | None
    ) -> Record:
        assert request.network_id is not None
        network = checks.network(self._calls, ctx, request.network_id)
        checks.demand_subnets(network)
        body: Record = {
            "network_id": network["id"],
            "project_id": binding.project_id,
            "tenant_id": binding.project_id,
            "admin_state_up": True,
            **binding.fields(mark, {}),
        }
        if request.fixed_ip is not None:
            body["fixed_ips"] = [{"ip_address": request.fixed_ip}]
        if groups is not None:
            checks.demand_port_security(network)
            body["security_groups"] = groups
        port = self._calls.create(ctx, "ports", body)
        if port.get("resource_request"):
            self._calls.delete(ctx, "ports", port["id"])
            raise checks.network_needs_resources(network["id"], binding.instance_uuid)
        log.info("port created", extra=about(ctx, instance=binding.instance_uuid, port=port["id"], host=binding.host))
        return port

    def _bind(self, ctx: Context, port_id: str, binding: Binding, mark: Record) -> Record:
        """Bind an existing port to the instance. Raises PortNotFound, Conflict when another instance has it.

        The race for a port is settled by its revision number: the update carries the one that was read.
        """
        for _ in range(ATTEMPTS):
            port = self._calls.find(ctx, "ports", port_id)
            if port is None or port["project_id"] != binding.project_id:
                raise PortNotFound(port_id=port_id)
            if port.get("device_id") not in (None, "", binding.instance_uuid):
                raise Conflict(reason=f"Port {port_id} is still in use.")
            if port.get("resource_request") and not port.get("device_id"):
                raise checks.port_needs_resources()
            if _mark(port).get("created"):  # after a rebuild the request may name a port that compute made
                mark = mark | {"created": True}
            changed = binding.fields(mark, _profile(port))
            bound = self._calls.update(ctx, "ports", port_id, changed, revision=port.get("revision_number"))
            if bound is not None:
                return _checked(bound, binding.host)
        raise Conflict(reason=f"Port {port_id} keeps changing.")

    def _rebind(self, ctx: Context, port: Record, binding: Binding, mark: Record) -> Record:
        if port.get("binding:host_id") == binding.host and port.get("binding:vif_type") not in ("unbound", *_FAILED):
            return port
        changed = binding.fields(mark, _profile(port))
        bound = self._calls.update(ctx, "ports", port["id"], changed)
        assert bound is not None
        return _checked(bound, binding.host)

    def _unbind(self, ctx: Context, port: Record) -> None:
        profile = {key: value for key, value in _profile(port).items() if key != MARK}
        body = {"device_id": "", "device_owner": "", "binding:host_id": "", "binding:profile": profile}
        self._calls.update(ctx, "ports", port["id"], body, missing_is_fine=True)

    def _drop_surplus(self, ctx: Context, mine: Iterable[Record], used: set[str]) -> None:
        """Delete ports that an earlier, interrupted run has made beyond those requested."""
        for port in mine:
            if port["id"] not in used and _mark(port).get("created"):
                self._calls.delete(ctx, "ports", port["id"])

    def _roll_back(self, ctx: Context, instance_uuid: str, made: Iterable[str]) -> None:
        for port_id in made:
            try:
                self._calls.delete(ctx, "ports", port_id)
            except PolycellError as error:
                log.warning("port is left behind", extra=about(ctx, instance=instance_uuid, port=port_id, reason=error))

    def _vifs(self, ctx: Context, ports: Sequence[Record], new: Sequence[str] = ()) -> tuple[Vif, ...]:
        """The ports as an instance has them. `new`: ports just made, which can't have floating addresses yet."""
        if not ports:
            return ()
        networks = self._calls.lasting(ctx, "networks", _all(ports, "network_id"))
        addresses = [address for port in ports for address in port.get("fixed_ips", ())]
        subnets = self._calls.lasting(ctx, "subnets", _all(addresses, "subnet_id"))
        floating = self._floating(ctx, [port["id"] for port in ports if port["id"] not in new])
        guarding = sorted({group for port in ports for group in port.get("security_groups") or ()})
        groups = self._calls.lasting(ctx, "security-groups", guarding)
        return tuple(_vif(port, networks.get(port["network_id"], {}), subnets, floating, groups) for port in ports)

    def _floating(self, ctx: Context, port_ids: Sequence[str]) -> dict[tuple[str, str], list[str]]:
        """Port and fixed address → floating addresses."""
        found: dict[tuple[str, str], list[str]] = {}
        if port_ids and "router" in self._calls.extensions(ctx):
            for record in self._calls.find_all(ctx, "floatingips", port_id=list(port_ids)):
                key = (record["port_id"], record["fixed_ip_address"])
                found.setdefault(key, []).append(record["floating_ip_address"])
        return found


_FAILED = ("binding_failed",)
_SHOWN_OF_SUBNET = (
    "id", "cidr", "gateway_ip", "ip_version", "dns_nameservers", "host_routes", "enable_dhcp", "ipv6_address_mode",
)  # fmt: skip


def _all(records: Iterable[Record], key: str) -> list[str]:
    return sorted({record[key] for record in records})


def _profile(port: Record) -> Record:
    return dict(port.get("binding:profile") or {})


def _mark(port: Record) -> Record:
    mark = _profile(port).get(MARK)
    return mark if isinstance(mark, dict) else {}


def _fits(port: Record, request: NetworkRequest, index: int) -> bool:
    mark = _mark(port)
    return bool(mark.get("created")) and mark.get("index") == index and port["network_id"] == request.network_id


def _checked(port: Record, host: str) -> Record:
    if port.get("binding:vif_type") in _FAILED:
        raise Invalid(reason=f"Binding failed for port {port['id']} on host {host}.")
    return port


def _vif(
    port: Record,
    network: Record,
    subnets: dict[str, Record],
    floating: dict[tuple[str, str], list[str]],
    groups: dict[str, Record],
) -> Vif:
    """The port as an instance has it. `details` are the binding's, and under "subnets" what the guest must know."""
    fixed_ips = []
    shown: list[dict[str, Any]] = []
    for entry in port.get("fixed_ips", ()):
        address, subnet_id = entry["ip_address"], entry["subnet_id"]
        floating_ips = tuple(floating.get((port["id"], address), ()))
        fixed_ips.append(FixedIp(address, 6 if ":" in address else 4, subnet_id, floating_ips))
        subnet = subnets.get(subnet_id)
        if subnet is not None and all(other["id"] != subnet_id for other in shown):
            shown.append({key: subnet.get(key) for key in _SHOWN_OF_SUBNET})
    mark = _mark(port)
    return Vif(
        port_id=port["id"],
        network_id=port["network_id"],
        network_name=network.get("name", ""),
        mac=port["mac_address"],
        fixed_ips=tuple(fixed_ips),
        mtu=int(network.get("mtu") or 1500),
        vif_type=port.get("binding:vif_type") or "",
        vnic_type=port.get("binding:vnic_type") or "normal",
        details={**(port.get("binding:vif_details") or {}), "subnets": shown},
        created_by_us=bool(mark.get("created")),
        tag=mark.get("tag"),
        security_groups=tuple(groups.get(each, {}).get("name") or each for each in port.get("security_groups") or ()),
    )
