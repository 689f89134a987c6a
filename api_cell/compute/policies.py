"""The Compute API's rules and their defaults (Nova policy reference, 2026), by the callers that are allowed.

A line is a noun and its verbs, `-` for the rule that has no verb: `os-rescue -` is `os_compute_api:os-rescue`.
"""

from __future__ import annotations

from dataclasses import replace

from api_cell.compute.deprecated_policies import FORMERS
from api_cell.edge.policy_rules import Rule

_BASE = {
    "context_is_admin": "role:admin",
    "admin_api": "is_admin:True",
    "admin_or_owner": "is_admin:True or project_id:%(project_id)s",
    "service_api": "role:service",
    "service_or_admin": "rule:service_api or rule:context_is_admin",
    "project_reader_api": "role:reader and project_id:%(project_id)s",
    "project_reader_or_admin": "rule:project_reader_api or rule:context_is_admin",
    "project_member_api": "role:member and project_id:%(project_id)s",
    "project_member_or_admin": "rule:project_member_api or rule:context_is_admin",
    "project_manager_api": "role:manager and project_id:%(project_id)s",
    "project_manager_or_admin": "rule:project_manager_api or rule:context_is_admin",
}

_ADMIN = """
limits other_project
os-admin-actions inject_network_info reset_state
os-aggregates add_host create delete index remove_host set_metadata show update
os-availability-zone detail
os-baremetal-nodes list show
os-console-auth-tokens -
os-evacuate -
os-extended-server-attributes -
os-flavor-access - add_tenant_access remove_tenant_access
os-flavor-extra-specs create delete update
os-flavor-manage create delete update
os-hosts list reboot show shutdown start update
os-hypervisors list list-detail search servers show statistics uptime
os-instance-actions events events:details
os-instance-usage-audit-log list show
os-lock-server unlock:unlock_override
os-migrate-server migrate:host migrate_live:host
os-migrations index:all_projects index:host
os-quota-class-sets show update
os-quota-sets delete update
os-server-diagnostics -
os-server-groups index:all_projects
os-services delete list update
os-shelve shelve_offload unshelve_to_host
os-simple-tenant-usage list
servers allow_all_filters create:forced_host create:zero_disk_flavor
servers detail:get_all_tenants index:get_all_tenants
servers migrations:index:host migrations:show show:host_status show:host_status:unknown-only
"""

_MANAGER = """
os-migrate-server migrate migrate_live
os-migrations index
servers migrations:delete migrations:force_complete migrations:index
"""

_MEMBER = """
os-admin-password -
os-attach-interfaces create delete
os-console-output -
os-create-backup -
os-deferred-delete force restore
os-floating-ips add create delete remove
os-lock-server lock unlock
os-multinic add remove
os-pause-server pause unpause
os-remote-consoles -
os-rescue -
os-security-groups add create delete remove rule:create rule:delete update
os-server-groups create delete
os-server-password clear
os-server-shares create delete
os-server-tags delete delete_all update update_all
os-shelve shelve unshelve
os-suspend-server resume suspend
os-unrescue -
os-volumes create delete snapshots:create snapshots:delete
os-volumes-attachments create delete update
server-metadata create delete update update_all
servers create create:attach_network create:attach_volume create:trusted_certs create_image
servers create_image:allow_volume_backed confirm_resize delete reboot rebuild rebuild:trusted_certs resize
servers revert_resize start stop trigger_crash_dump update
"""

_READER = """
ips index show
os-attach-interfaces list show
os-flavor-extra-specs index show
os-floating-ips list show
os-instance-actions list show
os-networks list show
os-quota-sets detail show
os-security-groups get list show
os-server-groups index show
os-server-password show
os-server-shares index show
os-server-tags index show
os-simple-tenant-usage show
os-tenant-networks list show
os-volumes detail list show snapshots:detail snapshots:list snapshots:show
os-volumes-attachments index show
server-metadata index show
servers detail index show show:flavor-extra-specs
"""

_ANYBODY = """
extensions -
limits -
os-availability-zone list
os-floating-ip-pools -
os-quota-sets defaults
"""

_SERVICE = """
os-assisted-volume-snapshots create delete
os-server-external-events create
os-volumes-attachments swap
"""

_OWN_KEYS = """
os-keypairs create delete index show
"""

_OTHERS = {
    "compute:aggregates:images": "rule:context_is_admin",
    "compute:server:topology:host:index": "rule:context_is_admin",
    "compute:server:topology:index": "rule:project_reader_or_admin",
    "compute:servers:create:requested_destination": "rule:context_is_admin",
    "compute:servers:resize:cross_cell": "!",
    "network:attach_external_network": "rule:context_is_admin",
}


def _rules(lines: str, check: str) -> list[Rule]:
    made = []
    for line in lines.strip().splitlines():
        noun, *verbs = line.split()
        made += [Rule(f"os_compute_api:{noun}" + ("" if verb == "-" else f":{verb}"), check) for verb in verbs]
    return made


_RULES = (
    *(Rule(name, check, scope=()) for name, check in _BASE.items()),
    *(Rule(name, check) for name, check in _OTHERS.items()),
    *_rules(_ADMIN, "rule:context_is_admin"),
    *_rules(_MANAGER, "rule:project_manager_or_admin"),
    *_rules(_MEMBER, "rule:project_member_or_admin"),
    *_rules(_READER, "rule:project_reader_or_admin"),
    *_rules(_ANYBODY, "@"),
    *_rules(_SERVICE, "rule:service_or_admin"),
    *_rules(_OWN_KEYS, "(rule:context_is_admin) or user_id:%(user_id)s"),
)

RULES: tuple[Rule, ...] = tuple(replace(rule, former=FORMERS.get(rule.name)) for rule in _RULES)


def judges(name: str) -> bool:
    """Whether a name that is none of RULES is a mistake: the file may be the Placement API's as well."""
    return not name.startswith("placement:") and name != "admin_or_service_api"
