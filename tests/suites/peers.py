"""The services beside a cell, in memory: what the protocols of cell_service.peers promise, and no more."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from cell_service.context import Context
from cell_service.errors import (
    Conflict,
    Forbidden,
    ImageNotFound,
    ImageUnacceptable,
    Invalid,
    InventoryExceeded,
    NetworkNotFound,
    PeerUnavailable,
    PortNotFound,
)
from cell_service.model.host import NodeReport
from cell_service.model.instance import FixedIp, NetworkRequest, Vif
from cell_service.peers.image import Image, ImagePage, ImageQuery, NewImage
from cell_service.peers.network import PortOwner, PortState, Record
from tests.suites.network_records import MemoryRecords

_MADE = datetime(2026, 1, 1, tzinfo=UTC)
NET = "11111111-0000-4000-8000-00000000000e"
SUBNET = "22222222-0000-4000-8000-00000000000e"


def _set() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


WITH_AGENT = {"hw_qemu_guest_agent": "yes"}
"""Properties of an image whose guests have a guest agent."""


@dataclass
class MemoryImages:
    """Images with bytes. `accepted`: an image, and a project that it is shared with. `down`: no answers. `delivering`:
    cleared, downloads begin and do not end."""

    records: dict[str, Image] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    downloads: list[str] = field(default_factory=list)
    uploads: list[str] = field(default_factory=list)
    accepted: set[tuple[str, str]] = field(default_factory=set)
    down: bool = False
    delivering: threading.Event = field(default_factory=_set)

    def add(self, contents: bytes = b"raw image", **fields: object) -> str:
        image_id = str(uuid4())
        record = Image(
            id=image_id,
            name="image",
            status="active",
            disk_format="raw",
            container_format="bare",
            size_bytes=len(contents),
            min_disk_gib=0,
            min_ram_mib=0,
            visibility="public",
            os_hash_algo="sha256",
            os_hash_value=hashlib.sha256(contents).hexdigest(),
            created_at=_MADE,
            updated_at=_MADE,
        )
        self.records[image_id] = replace(record, **fields)
        self.contents[image_id] = contents
        return image_id

    def get(self, ctx: Context, image_id: str) -> Image:
        self._answer()
        found = self.records.get(image_id)
        if found is None or not self._visible(ctx, found):
            raise ImageNotFound(image_id=image_id)
        return found

    def download(self, ctx: Context, image: Image, target: Path) -> None:
        self._answer()
        contents = self.contents[image.id]
        if hashlib.sha256(contents).hexdigest() != image.os_hash_value:
            raise ImageUnacceptable(image_id=image.id, reason="its hash is another one")
        self.downloads.append(image.id)
        self.delivering.wait()
        target.write_bytes(contents)

    def reserve(self, ctx: Context, image: NewImage) -> None:
        self._answer()
        record = Image(
            id=image.id,
            name=image.name,
            status="queued",
            disk_format="",
            container_format=image.container_format,
            size_bytes=0,
            min_disk_gib=image.min_disk_gib,
            min_ram_mib=image.min_ram_mib,
            visibility=image.visibility,
            owner=image.owner,
            created_at=_MADE,
            updated_at=_MADE,
            properties=dict(image.properties),
        )
        self.records.setdefault(image.id, record)

    def find(self, ctx: Context, owner: str, properties: Mapping[str, str]) -> tuple[Image, ...]:
        self._answer()
        wanted = properties.items()
        of_owner = [image for image in self.records.values() if image.owner == owner]
        return tuple(image for image in reversed(of_owner) if wanted <= image.properties.items())

    def upload(self, ctx: Context, image: NewImage, content: Path) -> None:
        self._answer()
        self.uploads.append(image.id)
        if image.id in self.records and self.records[image.id].status == "active":
            return
        contents = content.read_bytes()
        self.contents[image.id] = contents
        self.records[image.id] = Image(
            id=image.id,
            name=image.name,
            status="active",
            disk_format=image.disk_format,
            container_format=image.container_format,
            size_bytes=len(contents),
            min_disk_gib=image.min_disk_gib,
            min_ram_mib=image.min_ram_mib,
            visibility=image.visibility,
            owner=image.owner,
            os_hash_algo="sha256",
            os_hash_value=hashlib.sha256(contents).hexdigest(),
            created_at=_MADE,
            updated_at=_MADE,
            properties=dict(image.properties),
        )

    def page(self, ctx: Context, token: str, wanted: ImageQuery) -> ImagePage:
        self._answer()
        listed = [image for image in reversed(self.records.values()) if self._listed(ctx, image)]
        found = [image for image in listed if _is_wanted(image, wanted)]
        start = wanted.offset
        if wanted.marker is not None:
            places = [at for at, image in enumerate(found) if image.id == wanted.marker]
            if not places:
                raise Invalid(reason=f"marker [{wanted.marker}] not found")
            start += places[0] + 1
        return ImagePage(tuple(found[start : start + wanted.limit]), start + wanted.limit < len(found))

    def describe(self, ctx: Context, image_id: str, properties: Mapping[str, str]) -> Image:
        self._own(ctx, image_id)
        self.records[image_id] = replace(self.records[image_id], properties=dict(properties))
        return self.records[image_id]

    def remove(self, ctx: Context, image_id: str) -> None:
        self._own(ctx, image_id)
        self.delete(ctx, image_id)

    def _visible(self, ctx: Context, image: Image) -> bool:
        if ctx.is_admin or image.visibility in ("public", "community") or image.owner == ctx.project_id:
            return True
        return image.visibility == "shared" and (image.id, ctx.project_id) in self.accepted

    def _listed(self, ctx: Context, image: Image) -> bool:
        return self._visible(ctx, image) and (image.visibility != "community" or image.owner == ctx.project_id)

    def _own(self, ctx: Context, image_id: str) -> None:
        if self.get(ctx, image_id).owner != ctx.project_id and not ctx.is_admin:
            raise Forbidden(reason="It is another project's.")

    def delete(self, ctx: Context, image_id: str) -> None:
        self._answer()
        self.records.pop(image_id, None)
        self.contents.pop(image_id, None)

    def _answer(self) -> None:
        if self.down:
            raise PeerUnavailable(service="image", reason="it is down")


def _is_wanted(image: Image, wanted: ImageQuery) -> bool:
    sizes = (wanted.min_ram_mib, image.min_ram_mib), (wanted.min_disk_gib, image.min_disk_gib)
    since = wanted.changed_since
    return (
        wanted.name in (None, image.name)
        and (not wanted.statuses or image.status in wanted.statuses)
        and all(asked in (None, has) for asked, has in sizes)
        and (since is None or (image.updated_at is not None and image.updated_at >= since))
        and wanted.properties.items() <= image.properties.items()
    )


@dataclass
class Port:
    vif: Vif
    instance_uuid: str | None
    host: str | None
    key: str | None = None
    security_groups: tuple[str, ...] = ()
    status: str = "ACTIVE"
    project_id: str | None = None
    """None: that of its instance."""


@dataclass
class MemoryNetworks:
    """One network, `net`, and ports by id. Ports that users made stay when instances go."""

    ports: dict[str, Port] = field(default_factory=dict)
    records: MemoryRecords = field(default_factory=MemoryRecords)
    down: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)
    number: int = 0

    def __post_init__(self) -> None:
        self.records.ports, self.records.change_port = self._as_records, self._change_port

    def add_port(self, project_id: str | None = None, instance_uuid: str | None = None) -> str:
        with self.lock:
            port = self._new(instance_uuid, None, ours=False)
            port.project_id = project_id
            return port.vif.port_id

    def of(self, instance_uuid: str, project_id: str | None = None) -> list[Port]:
        """The ports that name the instance, but for those of other projects."""
        return [
            port
            for port in self.ports.values()
            if port.instance_uuid == instance_uuid and (project_id is None or port.project_id in (None, project_id))
        ]

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
        self._answer()
        outside = {found["id"] for found in self.records.find_all(ctx, "networks") if found.get("router:external")}
        if not external and outside & {request.network_id for request in requests}:
            raise Forbidden(reason="It is not allowed to create an interface on an external network")

    def available(self, ctx: Context, project_id: str) -> tuple[str, ...]:
        self._answer()
        return (NET,)

    def shown(self, ctx: Context, project_id: str) -> list[Record]:
        self._answer()
        return [
            found
            for found in self.records.find_all(ctx, "networks")
            if found.get("project_id") == project_id or found.get("shared") or found.get("router:external")
        ]

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
        self._answer()
        wanted = list(requests) if requests is not None else [NetworkRequest(network_id=NET)]
        with self.lock:
            mine = self.of(instance_uuid, project_id)
            found = []
            for request in wanted:
                if request.port_id is not None:
                    port = self._given(request.port_id, instance_uuid)
                elif request.network_id not in (None, NET):
                    raise NetworkNotFound(network_id=request.network_id)
                else:
                    ours = [port for port in mine if port.vif.created_by_us and port not in found]
                    port = ours[0] if ours else self._new(instance_uuid, host, ours=True)
                    port.security_groups = port.security_groups or self._groups(ctx, project_id, security_groups)
                port.instance_uuid, port.host = instance_uuid, host
                found.append(port)
            return tuple(self._guarded(port) for port in found)

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
        self._answer()
        with self.lock:
            port = next((port for port in self.of(instance_uuid, project_id) if port.key == key), None)
            if port is None and request.port_id is not None:
                port = self._given(request.port_id, "")
                port.vif = replace(port.vif, tag=request.tag)
            elif port is None and request.network_id not in (None, NET):
                raise NetworkNotFound(network_id=request.network_id)
            elif port is None:
                port = self._new(instance_uuid, host, ours=True)
                fixed = (FixedIp(request.fixed_ip, 4, SUBNET),) if request.fixed_ip else port.vif.fixed_ips
                port.vif = replace(port.vif, tag=request.tag, fixed_ips=fixed)
            port.instance_uuid, port.host, port.key = instance_uuid, host, key
            return self._guarded(port)

    def unplug(self, ctx: Context, instance_uuid: str, port_id: str, *, project_id: str) -> None:
        self._answer()
        with self.lock:
            self._release([port for port in self.of(instance_uuid, project_id) if port.vif.port_id == port_id])

    def roll_back(self, ctx: Context, instance_uuid: str, key: str, *, project_id: str) -> None:
        self._answer()
        with self.lock:
            self._release([port for port in self.of(instance_uuid, project_id) if port.key == key])

    def port_states(self, ctx: Context, instance_uuid: str, *, project_id: str) -> tuple[PortState, ...]:
        self._answer()
        return tuple(
            PortState(
                port.vif.port_id, port.vif.network_id, port.vif.mac, port.status, port.vif.fixed_ips, port.vif.tag,
                port.security_groups,
            )
            for port in self.of(instance_uuid, project_id)
        )  # fmt: skip

    def deallocate(self, ctx: Context, instance_uuid: str, *, project_id: str, keep: Sequence[str] = ()) -> None:
        self._answer()
        with self.lock:
            for port in self.of(instance_uuid, project_id):
                if port.vif.created_by_us and port.vif.port_id not in keep:
                    del self.ports[port.vif.port_id]
                else:
                    port.instance_uuid = port.host = None

    def _as_records(self) -> list[Record]:
        return [
            {
                "id": port.vif.port_id,
                "device_id": port.instance_uuid or "",
                "security_groups": list(port.security_groups),
                "fixed_ips": [{"ip_address": ip.address, "subnet_id": ip.subnet_id} for ip in port.vif.fixed_ips],
            }
            for port in self.ports.values()
        ]

    def _change_port(self, port_id: str, fields: Record) -> None:
        port = self.ports[port_id]
        port.security_groups = tuple(fields.get("security_groups", port.security_groups))
        if "fixed_ips" in fields:
            wanted = [(entry.get("ip_address") or "10.9.9.9", entry["subnet_id"]) for entry in fields["fixed_ips"]]
            port.vif = replace(port.vif, fixed_ips=tuple(FixedIp(ip, 4, subnet) for ip, subnet in wanted))

    def _floated(self, vif: Vif) -> Vif:
        """With the floating addresses that lead to it."""
        floating = [
            one for one in self.records.stored.get("floatingips", {}).values() if one.get("port_id") == vif.port_id
        ]
        if not floating:
            return vif
        fixed = tuple(
            replace(ip, floating_ips=tuple(
                one["floating_ip_address"] for one in floating if one["fixed_ip_address"] == ip.address
            ))
            for ip in vif.fixed_ips
        )  # fmt: skip
        return replace(vif, fixed_ips=fixed)

    def _groups(self, ctx: Context, project_id: str, names: Sequence[str]) -> tuple[str, ...]:
        known = self.records.find_all(ctx, "security-groups", project_id=project_id)
        return tuple(each["id"] for name in names for each in known if name in (each["id"], each["name"]))

    def _guarded(self, port: Port) -> Vif:
        """With the names of its security groups."""
        groups = self.records.stored.get("security-groups", {})
        names = tuple(groups.get(each, {}).get("name", each) for each in port.security_groups)
        return replace(port.vif, security_groups=names or None)

    def _release(self, ports: list[Port]) -> None:
        for port in ports:
            if port.vif.created_by_us:
                del self.ports[port.vif.port_id]
            else:
                port.instance_uuid = port.host = port.key = None

    def bind(self, ctx: Context, instance_uuid: str, host: str, *, project_id: str) -> tuple[Vif, ...]:
        self._answer()
        with self.lock:
            for port in self.of(instance_uuid, project_id):
                port.host = host
        return self.info(ctx, instance_uuid, project_id=project_id)

    def unbind(self, ctx: Context, instance_uuid: str, *, project_id: str) -> None:
        self._answer()
        with self.lock:
            for port in self.of(instance_uuid, project_id):
                port.host = None

    def info(self, ctx: Context, instance_uuid: str, *, project_id: str) -> tuple[Vif, ...]:
        self._answer()
        return tuple(self._floated(self._guarded(port)) for port in self.of(instance_uuid, project_id))

    def infos(self, ctx: Context, projects: Mapping[str, str]) -> dict[str, tuple[Vif, ...]]:
        found = {uuid: self.info(ctx, uuid, project_id=project) for uuid, project in projects.items()}
        return {uuid: vifs for uuid, vifs in found.items() if vifs}

    def owners(self, ctx: Context, address: str) -> tuple[PortOwner, ...]:
        self._answer()
        having = (port for port in self.ports.values() if any(one.address == address for one in port.vif.fixed_ips))
        return tuple(
            {PortOwner(port.instance_uuid, port.project_id or "") for port in having if port.instance_uuid is not None}
        )

    def _given(self, port_id: str, instance_uuid: str) -> Port:
        port = self.ports.get(port_id)
        if port is None:
            raise PortNotFound(port_id=port_id)
        if port.instance_uuid not in (None, instance_uuid):
            raise Conflict(reason=f"Port {port_id} is in use.")
        return port

    def _new(self, instance_uuid: str | None, host: str | None, *, ours: bool) -> Port:
        self.number += 1
        vif = Vif(
            port_id=str(uuid4()),
            network_id=NET,
            network_name="net",
            mac=f"fa:16:3e:00:{self.number // 256:02x}:{self.number % 256:02x}",
            fixed_ips=(FixedIp(f"10.0.{self.number // 256}.{self.number % 256}", 4, SUBNET),),
            created_by_us=ours,
        )
        self.ports[vif.port_id] = Port(vif, instance_uuid, host)
        return self.ports[vif.port_id]

    def _answer(self) -> None:
        if self.down:
            raise PeerUnavailable(service="network", reason="it is down")


@dataclass
class MemoryPlacement:
    """Providers with one capacity each for VCPU; allocations by consumer."""

    providers: dict[str, NodeReport] = field(default_factory=dict)
    disabled: set[str] = field(default_factory=set)
    allocations: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    full: set[str] = field(default_factory=set)
    reports: int = 0
    down: bool = False

    def report(self, ctx: Context, node: NodeReport) -> None:
        self._answer()
        self.reports += 1
        self.providers[node.uuid] = node

    def set_disabled(self, ctx: Context, provider_uuid: str, disabled: bool) -> None:
        self._answer()
        (self.disabled.add if disabled else self.disabled.discard)(provider_uuid)

    def allocations_of(self, ctx: Context, consumer_uuid: str) -> dict[str, dict[str, int]]:
        self._answer()
        return self.allocations.get(consumer_uuid, {})

    def consumers_on(self, ctx: Context, provider_uuid: str) -> dict[str, dict[str, int]]:
        self._answer()
        return {uuid: held[provider_uuid] for uuid, held in self.allocations.items() if provider_uuid in held}

    def move(
        self, ctx: Context, consumer_uuid: str, allocations: dict[str, dict[str, int]], project_id: str, user_id: str
    ) -> None:
        self._answer()
        for provider in allocations:
            if provider in self.full:
                raise InventoryExceeded(resource_class="VCPU", provider=provider, reason="It is full.")
        self.allocations[consumer_uuid] = allocations

    def release(self, ctx: Context, consumer_uuid: str) -> None:
        self._answer()
        self.allocations.pop(consumer_uuid, None)

    def delete_provider(self, ctx: Context, provider_uuid: str) -> None:
        self._answer()
        self.providers.pop(provider_uuid, None)

    def _answer(self) -> None:
        if self.down:
            raise PeerUnavailable(service="placement", reason="it is down")
