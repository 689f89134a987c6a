"""The table of the Compute API: one list for each noun, joined at the end."""

from __future__ import annotations

from api_cell.compute import flavor_access, flavor_extra_specs, flavor_schemas, flavors
from api_cell.edge.route import Route

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

ROUTES: tuple[Route, ...] = (*FLAVORS,)
