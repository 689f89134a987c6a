"""The limits of projects: by quotas of our own, by unified limits of the identity service, or none.

`[quota] driver` decides, under the names that nova's operators know. With each of them, what is in use is counted in
the transaction that accepts more, so that limits are never exceeded.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from api_cell.config import QuotaDriver
from api_cell.services import Services
from cell_service.context import Context
from cell_service.errors import DatabaseUnavailable, LimitExceeded
from cell_service.model.instance import InjectedFile
from mapping_db import class_usage, quotas
from mapping_db.cloud import Cloud

UNIFIED = {
    "instances": "servers",
    "cores": "class:VCPU",
    "ram": "class:MEMORY_MB",
    "metadata_items": "server_metadata_items",
    "injected_files": "server_injected_files",
    "injected_file_content_bytes": "server_injected_file_content_bytes",
    "injected_file_path_bytes": "server_injected_file_path_bytes",
    "key_pairs": "server_key_pairs",
    "server_groups": "server_groups",
    "server_group_members": "server_group_members",
}
"""Our resources → the names under which limits are registered for them; besides, `class:NAME` of any resource class."""
_OF_HOSTS = ("cores", "ram")


def project_limits(cloud: Cloud, services: Services, ctx: Context, project_id: str) -> dict[str, int]:
    """The project's limits by resource; -1 is none. Raises PeerUnavailable."""
    configured = services.settings.quota.limits()
    driver = services.settings.quota.driver
    if driver == QuotaDriver.NONE:
        return dict.fromkeys(configured, -1)
    if driver == QuotaDriver.UNIFIED:
        return _unified(services, services.require_unified_limits().of_project(ctx, project_id))
    with cloud.db.connect() as tx:
        return quotas.limits_of(tx, project_id, configured)


def item_limits(cloud: Cloud, services: Services, ctx: Context) -> dict[str, int]:
    """The limits of the caller's project on what one request brings along (metadata, files), where no usage counts.
    While the global database is away they are as this process read them last, or as configured. Raises PeerUnavailable.
    """
    try:
        found = project_limits(cloud, services, ctx, ctx.project_id)
    except DatabaseUnavailable:
        return services.item_limits.get_stale(ctx.project_id) or services.settings.quota.limits()
    services.item_limits.put(ctx.project_id, found)
    return found


def user_limits(cloud: Cloud, services: Services, ctx: Context, project_id: str, user_id: str) -> dict[str, int]:
    """The limits of one user in the project; where there are none of their own, the project's."""
    if services.settings.quota.driver != QuotaDriver.RECORDED:
        return project_limits(cloud, services, ctx, project_id)
    with cloud.db.connect() as tx:
        return quotas.user_limits_of(tx, project_id, user_id, services.settings.quota.limits())


def project_and_user_limits(
    cloud: Cloud, services: Services, ctx: Context, project_id: str, user_id: str
) -> tuple[dict[str, int], dict[str, int]]:
    """The limits of the project, and those of the user in it ({}: single users have no limits)."""
    if services.settings.quota.driver != QuotaDriver.RECORDED:
        return project_limits(cloud, services, ctx, project_id), {}
    with cloud.db.connect() as tx:
        return quotas.both_limits_of(tx, project_id, user_id, services.settings.quota.limits())


def default_limits(
    cloud: Cloud, services: Services, ctx: Context, class_name: str = quotas.DEFAULT_CLASS
) -> dict[str, int]:
    """The limits of projects without limits of their own; or those of a quota class."""
    configured = services.settings.quota.limits()
    driver = services.settings.quota.driver
    if driver == QuotaDriver.NONE:
        return dict.fromkeys(configured, -1)
    if driver == QuotaDriver.UNIFIED:
        return _unified(services, services.require_unified_limits().defaults(ctx))
    with cloud.db.connect() as tx:
        return quotas.class_limits_of(tx, class_name, configured)


def counts_classes(services: Services) -> bool:
    """Whether limits are on what servers request from hosts, by resource class, instead of on cores and ram."""
    return bool(services.settings.quota.driver == QuotaDriver.UNIFIED)


def server_limits(
    services: Services, ctx: Context, project_id: str, found: Mapping[str, int], classes: Collection[str]
) -> dict[str, int]:
    """`found`, the project's limits, for a request that needs these classes (`class_usage.of_flavor`).
    Raises PeerUnavailable."""
    if not counts_classes(services):
        return dict(found)
    known = {
        class_usage.row_name(name): limit
        for name, limit in services.require_unified_limits().of_project(ctx, project_id).items()
    }
    return {**found, "cores": -1, "ram": -1, **{name: known.get(name, _unset(services, name)) for name in classes}}


def usage_of(cloud: Cloud, services: Services, project_id: str, user_id: str = quotas.PROJECT) -> dict[str, int]:
    """The usage of the counted resources; where classes are limited, cores and ram are those of hosts."""
    with cloud.db.connect() as tx:
        used = quotas.usage_of(tx, project_id, user_id)
        if counts_classes(services) and user_id == quotas.PROJECT:
            of_hosts = class_usage.used_by(tx, project_id, [UNIFIED[name] for name in _OF_HOSTS])
            used |= {name: of_hosts[UNIFIED[name]] for name in _OF_HOSTS}
    return used


def are_recorded(services: Services) -> bool:
    """Whether limits that are set here have an effect: not when another service keeps them, or none does."""
    return bool(services.settings.quota.driver == QuotaDriver.RECORDED)


def demand_within(limit: int, amount: int, words: str) -> None:
    """Raises LimitExceeded, in these words, when the amount is more than the limit."""
    if 0 <= limit < amount:
        raise LimitExceeded(reason=f"{words} {limit}")


def demand_room_for(limits: Mapping[str, int], metadata: Mapping[str, str], files: tuple[InjectedFile, ...]) -> None:
    """Raises LimitExceeded when a server would have too much metadata, or too many or too large files."""
    demand_within(limits["metadata_items"], len(metadata), "Maximum number of metadata items exceeds")
    demand_within(limits["injected_files"], len(files), "Maximum number of injected files exceeds")
    for file in files:
        demand_within(limits["injected_file_path_bytes"], len(file.path), "Injected file path too long, the limit is")
        size = len(file.contents) * 3 // 4
        demand_within(limits["injected_file_content_bytes"], size, "Injected file content too long, the limit is")


def _unified(services: Services, found: Mapping[str, int]) -> dict[str, int]:
    """The limits by our names."""
    return {ours: found.get(theirs, _unset(services, theirs)) for ours, theirs in UNIFIED.items()}


def _unset(services: Services, name: str) -> int:
    """The limit of a resource that is not registered: 0 if it has to be registered (see the two options), else -1."""
    quota = services.settings.quota
    required = quota.unified_limits_resource_strategy == "require"
    return 0 if required == (name in map(class_usage.row_name, quota.unified_limits_resource_list)) else -1
