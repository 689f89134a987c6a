"""Accepting servers: everything is checked, then one global transaction accepts them.

Order: 1. flavor, image, key, networks, hosts are looked up (nothing changes); 2. quota, request specs, build requests,
mappings and group membership are one transaction: from here on each server will be built or its fault says why not; 3.
a super-conductor is woken. Killed after 2: super-conductors scan for build requests that none has claimed.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial
from uuid import uuid4

from sqlalchemy import Connection

from api_cell import cell_queries, group_members, quota_check
from api_cell.caller import Caller
from api_cell.scheduler import cells
from api_cell.servers import devices, hardware, networking
from api_cell.servers.create import image_devices, images
from api_cell.servers.create.server_request import ServerRequest, host_name
from api_cell.services import Services
from cell_service.context import Context
from cell_service.errors import (
    ComputeHostNotFound,
    Invalid,
    KeypairNotFound,
    LimitExceeded,
    OverQuota,
    ServerGroupNotFound,
    Unavailable,
)
from cell_service.logs import about
from cell_service.model import block_device, request_groups
from cell_service.model.ability import Ability
from cell_service.model.instance import Flavor, Instance, NetworkRequest
from cell_service.model.operation import BuildArguments
from cell_service.model.request_spec import RequestSpec
from cell_service.peers.image import Image
from mapping_db import (
    build_requests,
    class_usage,
    flavors,
    host_mappings,
    instance_mappings,
    key_pairs,
    quotas,
    request_specs,
    server_groups,
)
from mapping_db.build_requests import BuildRequest
from mapping_db.cloud import Cloud
from mapping_db.instance_mappings import InstanceMapping

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The servers that were accepted: their uuids in launch order."""

    uuids: tuple[str, ...]
    reservation_id: str
    admin_password: str
    wants_reservation_id: bool


@dataclass(frozen=True, slots=True)
class _Ingredients:
    """The parts of a server, looked up: flavor, image, key, group and limits."""

    flavor: Flavor
    image: Image
    key_data: str | None
    group_uuid: str | None
    departed: frozenset[str]
    """Members of the group that are deleted: looked for where the limit of members is in the way."""
    limits: dict[str, int]
    user_limits: dict[str, int]
    classes: dict[str, int]
    """The amounts that one server requests from a host, as quota counts them."""
    by_class: bool
    """Whether that is limited."""
    encrypted: bool
    """Whether one of its volumes is known to be encrypted."""


def accept(cloud: Cloud, services: Services, caller: Caller, request: ServerRequest) -> Accepted:
    """Accept the servers that the client requests.

    Raises Invalid, FlavorNotFound, ImageNotFound, KeypairNotFound, OverQuota, LimitExceeded, Forbidden, NotFound
    errors of networks, PeerUnavailable; then nothing has changed.
    """
    _demand_rights(caller, request)
    described_by = request.storage.described_by
    image = services.require_images().get(caller.ctx, described_by) if described_by else None
    if image is not None:
        images.check_volumes(request.storage.devices, image)
    if image is not None and image_devices.brings_devices(image):
        storage = image_devices.completed(request.storage, request.named_devices, image)
        request = replace(request, storage=storage)
        image = image_devices.without_devices(image)
    devices.check_disks(request.storage)
    ingredients = _look_up(cloud, services, caller, request, image)
    quota_check.demand_room_for(ingredients.limits, request.metadata, request.files)
    volume_backed = block_device.volume_backed(request.storage.devices)
    flavor = replace(ingredients.flavor, root_gib=0) if volume_backed else ingredients.flavor
    images.check_fit(flavor, ingredients.image)
    images.demand_verifiable(request.certificates, volume_backed=volume_backed)
    if not volume_backed:
        images.demand_disk_size(caller, flavor)
    _check_hosts(cloud, services, request)
    _check_cells(cloud, request)
    if services.networks is not None and request.networks != ():
        own = () if request.auto_networks else (NetworkRequest(),)
        wanted = own if request.networks is None else request.networks
        services.networks.validate(
            caller.ctx, wanted, request.security_groups, request.max_count,
            external=caller.may(networking.EXTERNAL_RULE),
        )  # fmt: skip
    servers = _servers(cloud, services, caller.ctx, request, ingredients)
    uuids = tuple(server.uuid for server in _promise_most(cloud, caller.ctx, request, ingredients, servers))
    for uuid in uuids:
        log.info("server accepted", extra=about(caller.ctx, instance=uuid, project=caller.ctx.project_id))
    try:
        services.superconductor.build(caller.ctx, uuids)
    except Unavailable as error:
        log.warning(
            "no super-conductor woken, the build waits for the next scan", extra=about(caller.ctx, reason=error)
        )
    return Accepted(uuids, servers[0].reservation_id, request.admin_password, request.wants_reservation_id)


def _demand_rights(caller: Caller, request: ServerRequest) -> None:
    if request.networks is None or request.networks:
        caller.demand("os_compute_api:servers:create:attach_network")
    if request.forced_host or request.forced_node:
        caller.demand("os_compute_api:servers:create:forced_host")
    if request.requested_host or request.requested_node:
        caller.demand("compute:servers:create:requested_destination")
    if {cells.TARGET, cells.DIFFERENT} & request.hints.keys():
        caller.demand("os_compute_api:servers:create:forced_host")
    if request.certificates:
        caller.demand("os_compute_api:servers:create:trusted_certs")
    if (request.requested_host or request.requested_node) and request.forced_host:
        raise Invalid(reason="A destination can be named once only: in availability_zone or as host.")


def _look_up(
    cloud: Cloud, services: Services, caller: Caller, request: ServerRequest, image: Image | None
) -> _Ingredients:
    ctx = caller.ctx
    group_uuid = request.hints.get("group")
    if isinstance(group_uuid, list):
        group_uuid = group_uuid[0] if group_uuid else None
    most, of_user = quota_check.project_and_user_limits(cloud, services, caller.ctx, ctx.project_id, ctx.user_id)
    members: Collection[str] = ()
    with cloud.db.connect() as tx:
        flavor = flavors.get(tx, request.flavor_id, None if ctx.is_admin else ctx.project_id)
        key_data = None
        if request.key_name is not None:
            try:
                key_data = key_pairs.get(tx, ctx.user_id, request.key_name).public_key
            except KeypairNotFound:
                raise Invalid(reason="Invalid key_name provided.") from None
        if group_uuid is not None:
            group = server_groups.by_uuids(tx, [group_uuid]).get(group_uuid)
            if group is None or (group.project_id != ctx.project_id and not ctx.is_admin):
                raise ServerGroupNotFound(group_uuid=group_uuid)
            members = group.members
    departed: frozenset[str] = frozenset()
    if 0 <= most["server_group_members"] < len(members) + request.max_count:
        departed = group_members.departed(cloud, ctx.deadline, members)
    if flavor.disabled:
        raise Invalid(reason=f"Flavor {request.flavor_id} could not be found.")
    request_groups.check(flavor)
    on_volume, encrypted = devices.check(
        services,
        caller,
        flavor,
        request.storage.devices,
        request.max_count,
        multiattach=request.multiattach,
        described=image is not None,
    )
    image = image or on_volume
    if image is None:
        raise Invalid(reason="Invalid imageRef provided.")
    images.demand_active(image)
    hardware.check(flavor, image.properties)
    classes = class_usage.of_flavor(flavor, volume_backed=block_device.volume_backed(request.storage.devices))
    most = quota_check.server_limits(services, caller.ctx, ctx.project_id, most, classes)
    by_class = quota_check.counts_classes(services)
    return _Ingredients(flavor, image, key_data, group_uuid, departed, most, of_user, classes, by_class, encrypted)


def _check_hosts(cloud: Cloud, services: Services, request: ServerRequest) -> None:
    """Check that zones and hosts that were named exist. Nova answers 400 for both."""
    named = [host for host in (request.forced_host, request.requested_host) if host]
    if named:
        with cloud.db.connect() as tx:
            for host in named:
                if not host_mappings.of_hosts(tx, [host]):
                    raise ComputeHostNotFound(host=host)
    zones = {services.settings.zones.default_availability_zone}
    if request.zone is not None and request.zone not in zones | set(cell_queries.zones(cloud).values()):
        raise Invalid(reason="The requested availability zone is not available")


def _check_cells(cloud: Cloud, request: ServerRequest) -> None:
    """Raises Invalid for a hint that names a cell which does not exist."""
    snapshot = cloud.cells.snapshot()
    for text in cells.named(request.hints.get(cells.TARGET)):
        if not cells.cells_called(snapshot, text):
            raise Invalid(reason=f"Hint {cells.TARGET}: no cell is called {text}.")
    servers = [text for text in cells.named(request.hints.get(cells.DIFFERENT))
               if not cells.cells_called(snapshot, text)]  # fmt: skip
    if servers:
        with cloud.db.connect() as tx:
            found = instance_mappings.places(tx, servers)
        if lost := [text for text in servers if text not in found]:
            raise Invalid(reason=f"Hint {cells.DIFFERENT}: {lost[0]} is no cell and no server.")


def _servers(
    cloud: Cloud, services: Services, ctx: Context, request: ServerRequest, made_of: _Ingredients
) -> list[Instance]:
    """The servers as they will be stored, in launch order."""
    reservation_id = "r-" + "".join(secrets.choice("0123456789abcdefghijklmnopqrstuvwxyz") for _ in range(8))
    now, image, settings = cloud.clock.now(), made_of.image, services.settings
    zone = request.zone or settings.zones.default_schedule_zone
    template = Instance(
        uuid="",
        project_id=ctx.project_id,
        user_id=ctx.user_id,
        display_name=request.name,
        flavor=made_of.flavor,
        created_at=now,
        updated_at=now,
        display_description=request.description,
        image_ref=request.storage.image_id and image.id,
        kernel_id=image.properties.get("kernel_id", ""),
        ramdisk_id=image.properties.get("ramdisk_id", ""),
        key_name=request.key_name,
        key_data=made_of.key_data,
        user_data=request.user_data,
        config_drive=request.config_drive or image.properties.get("img_config_drive") == "mandatory",
        availability_zone=zone,
        pinned_availability_zone=zone,
        reservation_id=reservation_id,
        access_ip_v4=request.access_ip_v4,
        access_ip_v6=request.access_ip_v6,
        auto_disk_config=request.auto_disk_config,
        metadata=request.metadata,
        system_metadata=images.remembered(made_of.flavor, image),
        tags=request.tags,
        security_groups=request.security_groups or (("default",) if request.networks != () else ()),
        trusted_image_certificates=request.certificates,
        scheduler_hints=request.hints,
    )
    return [_numbered(template, request, index) for index in range(request.max_count)]


def _numbered(template: Instance, request: ServerRequest, index: int) -> Instance:
    uuid = str(uuid4())
    several = request.max_count > 1
    name = f"{template.display_name}-{index + 1}" if several else template.display_name
    hostname = host_name(name, f"server-{uuid}")
    if request.hostname is not None:
        hostname = f"{request.hostname}-{index + 1}" if several else request.hostname
    return replace(
        template,
        uuid=uuid,
        display_name=name,
        hostname=hostname,
        launch_index=index,
        block_devices=devices.for_one(request.storage.devices),
    )


def _promise_most(
    cloud: Cloud, ctx: Context, request: ServerRequest, made_of: _Ingredients, servers: list[Instance]
) -> list[Instance]:
    """Accept as many of the servers as quota allows, at least min_count. Answers those."""
    chosen, sealed = servers, cloud.db.sealer().seal(request.admin_password)
    while True:
        try:
            cloud.db.run(partial(_promise, cloud, ctx, request, made_of, chosen, sealed))
            return chosen
        except OverQuota:
            if len(chosen) == request.min_count:
                raise
            chosen = servers[: max(request.min_count, min(len(chosen) - 1, _headroom(cloud, ctx, made_of)))]


def _headroom(cloud: Cloud, ctx: Context, made_of: _Ingredients) -> int:
    """How many servers the project's quota allows now."""
    wanted, most = _resources(made_of.flavor, 1), made_of.limits
    with cloud.db.connect() as tx:
        used = quotas.usage_of(tx, ctx.project_id)
        if made_of.by_class:
            wanted |= made_of.classes
            used |= class_usage.used_by(tx, ctx.project_id, made_of.classes)
    rooms = ((most[name] - used[name]) // amount for name, amount in wanted.items() if most[name] >= 0 and amount)
    return min(rooms, default=0)


def _resources(flavor: Flavor, count: int) -> dict[str, int]:
    return {"instances": count, "cores": count * flavor.vcpus, "ram": count * flavor.memory_mib}


def _promise(
    cloud: Cloud,
    ctx: Context,
    request: ServerRequest,
    made_of: _Ingredients,
    servers: list[Instance],
    sealed: str,
    tx: Connection,
) -> None:
    """Write all rows of the accepted servers. Quota comes last, since all requests of a project lock its rows."""
    now = cloud.clock.now()
    if made_of.group_uuid is not None:
        most = made_of.limits["server_group_members"]
        _join_group(tx, made_of.group_uuid, [server.uuid for server in servers], made_of.departed, most)
    build = BuildArguments(
        networks=request.networks,
        auto_networks=request.auto_networks,
        injected_files=request.files,
    )
    request_specs.insert_new(tx, [_spec(request, made_of, server) for server in servers], now)
    requests = (
        BuildRequest(each.uuid, each.project_id, each.created_at, ctx.request_id, each, build, sealed=sealed)
        for each in servers
    )
    build_requests.insert_new(tx, requests)
    instance_mappings.insert_new(tx, [_mapping(server) for server in servers])
    wanted = _resources(made_of.flavor, len(servers))
    classes = {name: len(servers) * amount for name, amount in made_of.classes.items()}
    if made_of.by_class:
        before: dict[str, dict[str, int]] = {server.uuid: {} for server in servers}
        class_usage.reserve(tx, ctx.project_id, ctx.user_id, wanted, classes, made_of.limits, before)
    else:
        quotas.reserve(tx, ctx.project_id, ctx.user_id, wanted, made_of.limits, made_of.user_limits, also=classes)


def _join_group(tx: Connection, group_uuid: str, uuids: list[str], departed: Collection[str], limit: int) -> None:
    group = server_groups.by_uuids(tx, [group_uuid], lock=True).get(group_uuid)
    if group is None:
        raise ServerGroupNotFound(group_uuid=group_uuid)
    if 0 <= limit < len(group.members.keys() - departed) + len(uuids):
        raise LimitExceeded(reason="Quota exceeded, too many servers in group")
    server_groups.join(tx, group_uuid, uuids)


def _spec(request: ServerRequest, made_of: _Ingredients, server: Instance) -> RequestSpec:
    image = made_of.image
    return RequestSpec(
        instance_uuid=server.uuid,
        project_id=server.project_id,
        user_id=server.user_id,
        flavor=made_of.flavor,
        image_id=image.id,
        image_properties=image.properties,
        image_min_ram_mib=image.min_ram_mib,
        image_min_disk_gib=0 if server.volume_backed else image.min_disk_gib,
        image_disk_format=image.disk_format,
        availability_zone=server.availability_zone,
        force_host=request.forced_host,
        force_node=request.forced_node,
        requested_host=request.requested_host,
        requested_node=request.requested_node,
        scheduler_hints=request.hints,
        group_uuid=made_of.group_uuid,
        volume_backed=server.volume_backed,
        needs=_needs(server, made_of),
    )


def _needs(server: Instance, made_of: _Ingredients) -> tuple[str, ...]:
    """The abilities that its host must have."""
    needed = (Ability.VOLUMES.value,) if block_device.volumes(server.block_devices) else ()
    return (*needed, Ability.ENCRYPTED_VOLUMES.value) if made_of.encrypted else needed


def _mapping(server: Instance) -> InstanceMapping:
    return InstanceMapping(
        instance_uuid=server.uuid,
        project_id=server.project_id,
        user_id=server.user_id,
        created_at=server.created_at,
        display_name=server.display_name,
        vcpus=server.flavor.vcpus,
        memory_mb=server.flavor.memory_mib,
    )
