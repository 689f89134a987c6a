"""Names and defaults that the Compute API's rules had before (Nova policy reference, 2026).

A line is the name before and the rules that have taken its place; its check before is the table's.
"""

from __future__ import annotations

from api_cell.edge.policy_rules import Former

_PREFIX = "os_compute_api:"

_ADMIN_API = """
os-baremetal-nodes > os-baremetal-nodes:list os-baremetal-nodes:show
os-hosts > os-hosts:list os-hosts:reboot os-hosts:show os-hosts:shutdown os-hosts:start os-hosts:update
os-hypervisors > os-hypervisors:list os-hypervisors:list-detail os-hypervisors:search os-hypervisors:servers
os-hypervisors > os-hypervisors:show os-hypervisors:statistics os-hypervisors:uptime
os-instance-usage-audit-log > os-instance-usage-audit-log:list os-instance-usage-audit-log:show
os-services > os-services:delete os-services:list os-services:update
os-used-limits > limits:other_project
"""

_ADMIN_OR_OWNER = """
os-attach-interfaces > os-attach-interfaces:create os-attach-interfaces:delete
os-attach-interfaces > os-attach-interfaces:list os-attach-interfaces:show
os-deferred-delete > os-deferred-delete:force os-deferred-delete:restore
os-flavor-access > os-flavor-access
os-flavor-extra-specs:index > servers:show:flavor-extra-specs
os-floating-ips > os-floating-ips:add os-floating-ips:create os-floating-ips:delete
os-floating-ips > os-floating-ips:list os-floating-ips:remove os-floating-ips:show
os-instance-actions > os-instance-actions:list os-instance-actions:show
os-multinic > os-multinic:add os-multinic:remove
os-networks:view > os-networks:list os-networks:show
os-rescue > os-unrescue
os-security-groups > os-security-groups:add os-security-groups:create os-security-groups:delete
os-security-groups > os-security-groups:get os-security-groups:list os-security-groups:remove
os-security-groups > os-security-groups:rule:create os-security-groups:rule:delete
os-security-groups > os-security-groups:show os-security-groups:update
os-server-password > os-server-password:clear os-server-password:show
os-tenant-networks > os-tenant-networks:list os-tenant-networks:show
os-volumes > os-volumes:create os-volumes:delete os-volumes:detail os-volumes:list os-volumes:show
os-volumes > os-volumes:snapshots:create os-volumes:snapshots:delete
os-volumes > os-volumes:snapshots:detail os-volumes:snapshots:list os-volumes:snapshots:show
"""

_CONTEXT_IS_ADMIN = """
os-migrate-server:migrate_live > os-migrate-server:migrate_live:host
os-migrations:index > os-migrations:index:all_projects os-migrations:index:host
servers:migrations:index > servers:migrations:index:host
"""

_BASE = {
    "context_is_admin": Former("rule:admin_api", "is_admin:True"),
    "project_manager_api": Former("rule:admin_api", "is_admin:True"),
    "project_manager_or_admin": Former("rule:admin_api", "is_admin:True"),
    "service_api": Former("rule:admin_api", "is_admin:True"),
    "service_or_admin": Former("rule:admin_api", "is_admin:True"),
    "project_member_api": Former("rule:admin_or_owner", "is_admin:True or project_id:%(project_id)s"),
    "project_member_or_admin": Former("rule:admin_or_owner", "is_admin:True or project_id:%(project_id)s"),
    "project_reader_api": Former("rule:admin_or_owner", "is_admin:True or project_id:%(project_id)s"),
    "project_reader_or_admin": Former("rule:admin_or_owner", "is_admin:True or project_id:%(project_id)s"),
}


def _formers(lines: str, check: str) -> dict[str, Former]:
    made: dict[str, Former] = {}
    for line in lines.strip().splitlines():
        before, rules = line.split(" > ")
        made |= {_PREFIX + rule: Former(_PREFIX + before, check) for rule in rules.split()}
    return made


FORMERS: dict[str, Former] = {
    **_BASE,
    **_formers(_ADMIN_API, "rule:admin_api"),
    **_formers(_ADMIN_OR_OWNER, "rule:admin_or_owner"),
    **_formers(_CONTEXT_IS_ADMIN, "rule:context_is_admin"),
}
"""The former names and defaults, by the name of today's rule."""
