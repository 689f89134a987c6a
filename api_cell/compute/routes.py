"""The table of the Compute API: one list for each noun, joined at the end."""

from __future__ import annotations

from api_cell.compute import extensions
from api_cell.compute.closed_queries import closed
from api_cell.compute.flavors import access as flavor_access
from api_cell.compute.flavors import extra_specs as flavor_extra_specs
from api_cell.compute.flavors import handlers as flavors
from api_cell.compute.flavors import schemas as flavor_schemas
from api_cell.compute.hosts import (
    aggregate_images,
    aggregates,
    availability_zones,
    baremetal_nodes,
    hypervisors,
    services,
)
from api_cell.compute.hosts import handlers as hosts
from api_cell.compute.hosts import schemas as host_schemas
from api_cell.compute.keypairs import handlers as keypairs
from api_cell.compute.keypairs import schemas as keypair_schemas
from api_cell.compute.proxies import assisted_snapshots, external_events, security_groups, volumes_boot
from api_cell.compute.proxies import images as image_proxies
from api_cell.compute.proxies import networks as network_proxies
from api_cell.compute.proxies import volumes as volume_proxies
from api_cell.compute.quotas import limits, quota_classes, quota_sets, tenant_usage, usage_audit_log
from api_cell.compute.quotas import schemas as quota_schemas
from api_cell.compute.removed import REMOVED
from api_cell.compute.servers import actions as server_actions
from api_cell.compute.servers import consoles, instance_actions, migrations, move_schemas, volume_attachments
from api_cell.compute.servers import deletes as server_deletes
from api_cell.compute.servers import diagnostics as server_diagnostics
from api_cell.compute.servers import groups as server_groups
from api_cell.compute.servers import guests as server_guests
from api_cell.compute.servers import handlers as servers
from api_cell.compute.servers import images as server_images
from api_cell.compute.servers import interfaces as server_interfaces
from api_cell.compute.servers import metadata as server_metadata
from api_cell.compute.servers import moves as server_moves
from api_cell.compute.servers import password as server_password
from api_cell.compute.servers import rebuild as server_rebuild
from api_cell.compute.servers import rescue as server_rescue
from api_cell.compute.servers import schemas as server_schemas
from api_cell.compute.servers import shares as server_shares
from api_cell.compute.servers import shelve as server_shelve
from api_cell.edge.route import ByVersion, Handler, Route, Schema
from api_cell.servers import power
from api_cell.servers.act import Doing
from cell_service.errors import (
    ComputeHostNotFound,
    FlavorNotFound,
    ImageNotFound,
    NetworkNotFound,
    PortNotFound,
    SecurityGroupNotFound,
    ServerGroupNotFound,
    SnapshotNotFound,
    VolumeNotFound,
)

FLAVORS = (
    Route("GET", "/flavors", flavors.index, query=flavor_schemas.LIST),
    Route("POST", "/flavors", flavors.create, rule="os_compute_api:os-flavor-manage:create",
          body=flavor_schemas.CREATE),
    Route("GET", "/flavors/detail", flavors.detail, query=flavor_schemas.LIST),
    Route("GET", "/flavors/{id}", flavors.show),
    Route("PUT", "/flavors/{id}", flavors.update, rule="os_compute_api:os-flavor-manage:update",
          body=flavor_schemas.UPDATE, min_version=(2, 55)),
    Route("DELETE", "/flavors/{id}", flavors.delete, rule="os_compute_api:os-flavor-manage:delete"),
    Route("GET", "/flavors/{flavor_id}/os-flavor-access", flavor_access.index,
          rule="os_compute_api:os-flavor-access"),
    Route("POST", "/flavors/{id}/action", flavor_access.add, action="addTenantAccess",
          rule="os_compute_api:os-flavor-access:add_tenant_access", body=flavor_schemas.ADD_ACCESS),
    Route("POST", "/flavors/{id}/action", flavor_access.remove, action="removeTenantAccess",
          rule="os_compute_api:os-flavor-access:remove_tenant_access", body=flavor_schemas.REMOVE_ACCESS),
    Route("GET", "/flavors/{flavor_id}/os-extra_specs", flavor_extra_specs.index,
          rule="os_compute_api:os-flavor-extra-specs:index"),
    Route("POST", "/flavors/{flavor_id}/os-extra_specs", flavor_extra_specs.create,
          rule="os_compute_api:os-flavor-extra-specs:create", body=flavor_schemas.CREATE_SPECS),
    Route("GET", "/flavors/{flavor_id}/os-extra_specs/{id}", flavor_extra_specs.show,
          rule="os_compute_api:os-flavor-extra-specs:show"),
    Route("PUT", "/flavors/{flavor_id}/os-extra_specs/{id}", flavor_extra_specs.update,
          rule="os_compute_api:os-flavor-extra-specs:update", body=flavor_schemas.UPDATE_SPEC),
    Route("DELETE", "/flavors/{flavor_id}/os-extra_specs/{id}", flavor_extra_specs.delete,
          rule="os_compute_api:os-flavor-extra-specs:delete"),
)  # fmt: skip

KEYPAIRS = (
    Route("GET", "/os-keypairs", keypairs.index, query=keypair_schemas.LIST),
    Route("POST", "/os-keypairs", keypairs.create, body=keypair_schemas.CREATE),
    Route("GET", "/os-keypairs/{id}", keypairs.show, query=keypair_schemas.ONE),
    Route("DELETE", "/os-keypairs/{id}", keypairs.delete, query=keypair_schemas.ONE),
)

QUOTAS = (
    Route("GET", "/limits", limits.index, rule="os_compute_api:limits", query=quota_schemas.LIMITS),
    Route("GET", "/os-quota-sets/{id}", quota_sets.show, query=quota_schemas.BY_USER),
    Route("GET", "/os-quota-sets/{id}/detail", quota_sets.detail, query=quota_schemas.BY_USER),
    Route("GET", "/os-quota-sets/{id}/defaults", quota_sets.defaults, rule="os_compute_api:os-quota-sets:defaults"),
    Route("PUT", "/os-quota-sets/{id}", quota_sets.update, rule="os_compute_api:os-quota-sets:update",
          body=quota_schemas.UPDATE_SET, query=quota_schemas.BY_USER),
    Route("DELETE", "/os-quota-sets/{id}", quota_sets.delete, rule="os_compute_api:os-quota-sets:delete",
          query=quota_schemas.BY_USER),
    Route("GET", "/os-quota-class-sets/{id}", quota_classes.show, rule="os_compute_api:os-quota-class-sets:show"),
    Route("PUT", "/os-quota-class-sets/{id}", quota_classes.update, rule="os_compute_api:os-quota-class-sets:update",
          body=quota_schemas.UPDATE_CLASS),
)  # fmt: skip

AVAILABILITY_ZONES = (
    Route("GET", "/os-availability-zone", availability_zones.index, rule="os_compute_api:os-availability-zone:list"),
    Route("GET", "/os-availability-zone/detail", availability_zones.detail,
          rule="os_compute_api:os-availability-zone:detail"),
)  # fmt: skip

SERVICES = (
    Route("GET", "/os-services", services.index, rule="os_compute_api:os-services:list",
          query=host_schemas.LIST_SERVICES),
    Route("PUT", "/os-services/{id}", services.update_by_verb, rule="os_compute_api:os-services:update",
          body=host_schemas.UPDATE_SERVICE_BY_VERB, max_version=(2, 52)),
    Route("PUT", "/os-services/{id}", services.update, rule="os_compute_api:os-services:update",
          body=host_schemas.UPDATE_SERVICE, min_version=(2, 53)),
    Route("DELETE", "/os-services/{id}", services.delete_by_number, rule="os_compute_api:os-services:delete",
          max_version=(2, 52)),
    Route("DELETE", "/os-services/{id}", services.delete, rule="os_compute_api:os-services:delete",
          min_version=(2, 53)),
)  # fmt: skip

HYPERVISORS = (
    Route("GET", "/os-hypervisors", hypervisors.index, rule="os_compute_api:os-hypervisors:list",
          query=host_schemas.LIST_HYPERVISORS),
    Route("GET", "/os-hypervisors/detail", hypervisors.detail, rule="os_compute_api:os-hypervisors:list-detail",
          query=host_schemas.LIST_HYPERVISORS),
    Route("GET", "/os-hypervisors/statistics", hypervisors.statistics,
          rule="os_compute_api:os-hypervisors:statistics", max_version=(2, 87)),
    Route("GET", "/os-hypervisors/{id}", hypervisors.show, rule="os_compute_api:os-hypervisors:show",
          query=host_schemas.SHOW_HYPERVISOR),
    Route("GET", "/os-hypervisors/{id}/uptime", hypervisors.uptime, rule="os_compute_api:os-hypervisors:uptime",
          max_version=(2, 87)),
    Route("GET", "/os-hypervisors/{id}/search", hypervisors.search, rule="os_compute_api:os-hypervisors:search",
          max_version=(2, 52)),
    Route("GET", "/os-hypervisors/{id}/servers", hypervisors.servers, rule="os_compute_api:os-hypervisors:servers",
          max_version=(2, 52)),
)  # fmt: skip

USAGE = (
    Route("GET", "/os-migrations", migrations.index, query=migrations.LIST_QUERY),
    Route("GET", "/os-simple-tenant-usage", tenant_usage.index, rule="os_compute_api:os-simple-tenant-usage:list",
          query=tenant_usage.LIST_QUERY),
    Route("GET", "/os-simple-tenant-usage/{id}", tenant_usage.show, query=tenant_usage.SHOW_QUERY),
)  # fmt: skip

SERVER_GROUPS = (
    Route("GET", "/os-server-groups", server_groups.index, rule="os_compute_api:os-server-groups:index",
          query=server_groups.LIST),
    Route("POST", "/os-server-groups", server_groups.create, rule="os_compute_api:os-server-groups:create",
          body=server_groups.CREATE),
    Route("GET", "/os-server-groups/{id}", server_groups.show),
    Route("DELETE", "/os-server-groups/{id}", server_groups.delete),
)  # fmt: skip

AGGREGATES = (
    Route("GET", "/os-aggregates", aggregates.index, rule="os_compute_api:os-aggregates:index"),
    Route("POST", "/os-aggregates", aggregates.create, rule="os_compute_api:os-aggregates:create",
          body=host_schemas.CREATE_AGGREGATE),
    Route("GET", "/os-aggregates/{id}", aggregates.show, rule="os_compute_api:os-aggregates:show"),
    Route("PUT", "/os-aggregates/{id}", aggregates.update, rule="os_compute_api:os-aggregates:update",
          body=host_schemas.UPDATE_AGGREGATE),
    Route("DELETE", "/os-aggregates/{id}", aggregates.delete, rule="os_compute_api:os-aggregates:delete"),
    Route("POST", "/os-aggregates/{id}/action", aggregates.add_host, action="add_host",
          rule="os_compute_api:os-aggregates:add_host", body=host_schemas.ADD_HOST),
    Route("POST", "/os-aggregates/{id}/action", aggregates.remove_host, action="remove_host",
          rule="os_compute_api:os-aggregates:remove_host", body=host_schemas.REMOVE_HOST),
    Route("POST", "/os-aggregates/{id}/action", aggregates.set_metadata, action="set_metadata",
          rule="os_compute_api:os-aggregates:set_metadata", body=host_schemas.SET_METADATA),
)  # fmt: skip


def _simple(action: str, doing: Doing) -> Route:
    return Route(
        "POST", "/servers/{id}/action", server_actions.doing(doing), action=action, body=server_schemas.action(action)
    )


def _move(action: str, handler: Handler, body: Schema | ByVersion) -> Route:
    return Route("POST", "/servers/{id}/action", handler, action=action, body=body)


SERVERS = (
    Route("GET", "/servers", servers.index, query=server_schemas.LIST_QUERY),
    Route(
        "POST",
        "/servers",
        servers.create_server,
        body=server_schemas.CREATE,
        bad_reference=(
            FlavorNotFound,
            ImageNotFound,
            NetworkNotFound,
            PortNotFound,
            SecurityGroupNotFound,
            ServerGroupNotFound,
            SnapshotNotFound,
            VolumeNotFound,
            ComputeHostNotFound,
        ),
    ),
    Route("GET", "/servers/detail", servers.detail, query=server_schemas.LIST_QUERY),
    Route("GET", "/servers/{id}", servers.show),
    Route("PUT", "/servers/{id}", servers.update, body=server_schemas.UPDATE),
    Route("DELETE", "/servers/{id}", servers.delete_server),
)

SERVER_ACTIONS = (
    _simple("os-start", power.START),
    _simple("os-stop", power.STOP),
    _simple("pause", power.PAUSE),
    _simple("unpause", power.UNPAUSE),
    _simple("suspend", power.SUSPEND),
    _simple("resume", power.RESUME),
    Route("POST", "/servers/{id}/action", server_actions.reboot, action="reboot", body=server_schemas.REBOOT),
    Route(
        "POST",
        "/servers/{id}/action",
        server_rebuild.rebuild,
        action="rebuild",
        body=server_rebuild.REBUILD,
        bad_reference=(ImageNotFound,),
    ),
    _move("shelve", server_shelve.shelve, server_schemas.action("shelve")),
    _move("shelveOffload", server_shelve.offload, server_schemas.action("shelveOffload")),
    Route(
        "POST",
        "/servers/{id}/action",
        server_shelve.unshelve,
        action="unshelve",
        body=server_shelve.UNSHELVE,
        bad_reference=(ComputeHostNotFound,),
    ),
    _move("resize", server_moves.resize, move_schemas.RESIZE),
    _move("confirmResize", server_moves.confirm, server_schemas.action("confirmResize")),
    _move("revertResize", server_moves.revert, server_schemas.action("revertResize")),
    _move("migrate", server_moves.migrate, move_schemas.MIGRATE),
    _move("os-migrateLive", server_moves.live_migrate, move_schemas.LIVE),
    _move("evacuate", server_moves.evacuate, move_schemas.EVACUATE),
    Route("POST", "/servers/{id}/action", server_actions.lock, action="lock", body=server_schemas.LOCK),
    Route("POST", "/servers/{id}/action", server_actions.unlock, action="unlock", body=server_schemas.action("unlock")),
    Route(
        "POST",
        "/servers/{id}/action",
        server_actions.reset_state,
        action="os-resetState",
        body=server_schemas.RESET_STATE,
    ),
    Route(
        "POST",
        "/servers/{id}/action",
        server_actions.console_output,
        action="os-getConsoleOutput",
        body=server_schemas.CONSOLE_OUTPUT,
    ),
)

SERVER_PARTS = (
    Route("GET", "/servers/{server_id}/metadata", server_metadata.metadata_index),
    Route("POST", "/servers/{server_id}/metadata", server_metadata.metadata_add, body=server_schemas.METADATA),
    Route("PUT", "/servers/{server_id}/metadata", server_metadata.metadata_replace, body=server_schemas.METADATA),
    Route("GET", "/servers/{server_id}/metadata/{id}", server_metadata.metadata_show),
    Route("PUT", "/servers/{server_id}/metadata/{id}", server_metadata.metadata_set, body=server_schemas.META),
    Route("DELETE", "/servers/{server_id}/metadata/{id}", server_metadata.metadata_remove),
    Route("GET", "/servers/{server_id}/tags", server_metadata.tags_index, min_version=(2, 26)),
    Route("PUT", "/servers/{server_id}/tags", server_metadata.tags_replace, min_version=(2, 26),
          body=server_schemas.SERVER_TAGS),
    Route("DELETE", "/servers/{server_id}/tags", server_metadata.tags_remove, min_version=(2, 26)),
    Route("GET", "/servers/{server_id}/tags/{id}", server_metadata.tag_show, min_version=(2, 26)),
    Route("PUT", "/servers/{server_id}/tags/{id}", server_metadata.tag_add, min_version=(2, 26)),
    Route("DELETE", "/servers/{server_id}/tags/{id}", server_metadata.tag_remove, min_version=(2, 26)),
    Route("GET", "/servers/{server_id}/ips", server_metadata.addresses_index),
    Route("GET", "/servers/{server_id}/ips/{id}", server_metadata.addresses_show),
    Route("GET", "/servers/{server_id}/diagnostics", server_diagnostics.show),
    Route("GET", "/servers/{server_id}/os-server-password", server_password.show),
    Route("DELETE", "/servers/{server_id}/os-server-password", server_password.clear),
    Route("GET", "/servers/{server_id}/migrations", migrations.of_server, query=migrations.OF_SERVER_QUERY,
          min_version=(2, 23)),
    Route("GET", "/servers/{server_id}/migrations/{id}", migrations.show, query=migrations.OF_SERVER_QUERY,
          min_version=(2, 23)),
    Route("DELETE", "/servers/{server_id}/migrations/{id}", migrations.abort, min_version=(2, 24)),
    Route("POST", "/servers/{server_id}/migrations/{id}/action", migrations.force_complete, action="force_complete",
          body=migrations.FORCE_COMPLETE, min_version=(2, 22)),
    Route("GET", "/servers/{server_id}/os-instance-actions", instance_actions.index,
          query=server_schemas.ACTIONS_QUERY),
    Route("GET", "/servers/{server_id}/os-instance-actions/{id}", instance_actions.show),
)  # fmt: skip

_SECTIONS: tuple[Route, ...] = (
    *FLAVORS,
    *KEYPAIRS,
    *QUOTAS,
    *AVAILABILITY_ZONES,
    *SERVICES,
    *HYPERVISORS,
    *USAGE,
    *SERVER_GROUPS,
    *AGGREGATES,
    *SERVERS,
    *SERVER_ACTIONS,
    *server_rescue.ROUTES,
    *server_images.ROUTES,
    *server_deletes.ROUTES,
    *server_guests.ROUTES,
    *consoles.ROUTES,
    *aggregate_images.ROUTES,
    *server_shares.ROUTES,
    *hosts.ROUTES,
    *extensions.ROUTES,
    *baremetal_nodes.ROUTES,
    *usage_audit_log.ROUTES,
    *SERVER_PARTS,
    *server_interfaces.ROUTES,
    *volume_attachments.ROUTES,
    *volume_proxies.ROUTES,
    *assisted_snapshots.ROUTES,
    *volumes_boot.routes_of((*SERVERS, *SERVER_ACTIONS, *server_images.ROUTES, *server_guests.ROUTES)),
    *external_events.ROUTES,
    *security_groups.ROUTES,
    *network_proxies.ROUTES,
    *image_proxies.ROUTES,
    *REMOVED,
)

ROUTES = closed(_SECTIONS)
