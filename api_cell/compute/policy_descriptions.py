"""Descriptions of the Compute API's rules, for the sample policy file: what a caller may do by each.

A line is a rule and the end of the sentence "The caller may …". What an operation checks itself, and no route does,
stands after `|`: methods and paths, with the action in parentheses.
"""

from __future__ import annotations

BASE = {
    "context_is_admin": "The caller is an administrator.",
    "admin_api": "The caller is an administrator, as former rules checked it. No rule refers to it by default.",
    "admin_or_owner": "The caller is an administrator or of the target's project. Former rules refer to it.",
    "service_api": "The caller is another service of the cloud.",
    "service_or_admin": "The caller is another service of the cloud or an administrator.",
    "project_reader_api": "The caller may read what the target's project has.",
    "project_reader_or_admin": "The caller may read what the target's project has, or is an administrator.",
    "project_member_api": "The caller may change what the target's project has.",
    "project_member_or_admin": "The caller may change what the target's project has, or is an administrator.",
    "project_manager_api": "The caller manages the target's project.",
    "project_manager_or_admin": "The caller manages the target's project, or is an administrator.",
}

UNCHECKED = {
    "compute:server:topology:host:index": "The caller may see on which NUMA nodes and CPUs of its host a server runs. "
    "Servers have no NUMA topology here, so there is nothing to see.",
}
"""Nova's rules that nothing here depends on: the files of operators may have them."""

ALLOWED = """
compute:aggregates:images: have images cached on the hosts of an aggregate
compute:server:topology:index: see the NUMA topology of a server | GET /servers/{server_id}/topology
compute:servers:create:requested_destination: name the host or hypervisor of a new server, \
which the scheduler then checks | POST /servers
compute:servers:resize:cross_cell: have a server moved to another cell by a resize, a migration or an unshelve \
| POST /servers/{id}/action (resize), POST /servers/{id}/action (migrate), POST /servers/{id}/action (unshelve)
limits:other_project: see the limits and the usage of another project | GET /limits
network:attach_external_network: connect servers to external networks that are not shared \
| POST /servers, POST /servers/{server_id}/os-interface
os-admin-actions:inject_network_info: inject its network configuration into a server \
| POST /servers/{id}/action (injectNetworkInfo)
os-admin-actions:reset_state: set the state of a server to active or error | POST /servers/{id}/action (os-resetState)
os-aggregates:add_host: add a host to an aggregate
os-aggregates:create: create an aggregate of hosts
os-aggregates:delete: delete an aggregate
os-aggregates:index: list all aggregates
os-aggregates:remove_host: remove a host from an aggregate
os-aggregates:set_metadata: set and remove the metadata of an aggregate
os-aggregates:show: see one aggregate
os-aggregates:update: change the name or the availability zone of an aggregate
os-availability-zone:detail: list availability zones with their hosts and services
os-availability-zone:list: list availability zones
os-baremetal-nodes:list: list the nodes of the bare metal service
os-baremetal-nodes:show: see one node of the bare metal service
os-console-auth-tokens: see where the console of a token is served
os-evacuate: rebuild a server on another host after its own has failed | POST /servers/{id}/action (evacuate)
os-extended-server-attributes: see the host, the hypervisor and the other internal attributes of a server \
| GET /servers/{id}, GET /servers/detail, PUT /servers/{id}, POST /servers/{id}/action (rebuild)
os-flavor-access: list the projects that may use a private flavor
os-flavor-access:add_tenant_access: let a project use a private flavor
os-flavor-access:remove_tenant_access: end a project's use of a private flavor
os-flavor-extra-specs:create: add extra specs to a flavor
os-flavor-extra-specs:delete: delete an extra spec of a flavor
os-flavor-extra-specs:index: list the extra specs of a flavor
os-flavor-extra-specs:show: see one extra spec of a flavor
os-flavor-extra-specs:update: change an extra spec of a flavor
os-flavor-manage:create: create a flavor
os-flavor-manage:delete: delete a flavor
os-flavor-manage:update: change the description of a flavor
os-hosts:list: list the hosts of the cloud
os-hosts:reboot: reboot a host
os-hosts:show: see the resources of a host
os-hosts:shutdown: shut a host down
os-hosts:start: start a host
os-hosts:update: enable or disable a host, or put it in maintenance
os-hypervisors:list: list hypervisors
os-hypervisors:list-detail: list hypervisors with their details
os-hypervisors:search: find hypervisors by a part of their host name
os-hypervisors:servers: list the servers of a hypervisor
os-hypervisors:show: see one hypervisor
os-hypervisors:statistics: see the sums of all hypervisors' resources
os-hypervisors:uptime: see how long a hypervisor has been up
os-instance-actions:events: see the events of a server's action \
| GET /servers/{server_id}/os-instance-actions/{id}
os-instance-actions:events:details: see the error details in the events of a server's action \
| GET /servers/{server_id}/os-instance-actions/{id}
os-instance-actions:list: list the actions of a server | GET /servers/{server_id}/os-instance-actions
os-instance-actions:show: see one action of a server | GET /servers/{server_id}/os-instance-actions/{id}
os-instance-usage-audit-log:list: list the usage audits of all hosts
os-instance-usage-audit-log:show: list the usage audits before a time
os-lock-server:lock: lock a server | POST /servers/{id}/action (lock)
os-lock-server:unlock: unlock a server | POST /servers/{id}/action (unlock)
os-lock-server:unlock:unlock_override: unlock a server that another caller has locked \
| POST /servers/{id}/action (unlock)
os-migrate-server:migrate: migrate a server to another host | POST /servers/{id}/action (migrate)
os-migrate-server:migrate:host: name the host to which a server is migrated | POST /servers/{id}/action (migrate)
os-migrate-server:migrate_live: migrate a running server to another host \
| POST /servers/{id}/action (os-migrateLive)
os-migrate-server:migrate_live:host: name the host to which a running server is migrated \
| POST /servers/{id}/action (os-migrateLive)
os-migrations:index: list the migrations of the own project's servers | GET /os-migrations
os-migrations:index:all_projects: list the migrations of all projects' servers | GET /os-migrations
os-migrations:index:host: see the hosts in a list of migrations, and filter by them | GET /os-migrations
os-quota-class-sets:show: see the default quotas
os-quota-class-sets:update: change the default quotas
os-quota-sets:defaults: see the default quotas that apply to a project
os-quota-sets:delete: set the quotas of a project or a user back to the defaults
os-quota-sets:detail: see the quotas of a project and what it uses of them | GET /os-quota-sets/{id}/detail
os-quota-sets:show: see the quotas of a project | GET /os-quota-sets/{id}
os-quota-sets:update: change the quotas of a project or a user
os-server-diagnostics: see the diagnostics of a server | GET /servers/{server_id}/diagnostics
os-server-groups:create: create a server group
os-server-groups:delete: delete a server group | DELETE /os-server-groups/{id}
os-server-groups:index: list the server groups of the own project
os-server-groups:index:all_projects: list the server groups of all projects | GET /os-server-groups
os-server-groups:show: see one server group | GET /os-server-groups/{id}
os-services:delete: delete a service
os-services:list: list the services and their states
os-services:update: enable, disable or force down a service
os-shelve:shelve: shelve a server | POST /servers/{id}/action (shelve)
os-shelve:shelve_offload: remove a shelved server from its host | POST /servers/{id}/action (shelveOffload)
os-shelve:unshelve: bring a shelved server back | POST /servers/{id}/action (unshelve)
os-shelve:unshelve_to_host: name the host on which a shelved server comes back | POST /servers/{id}/action (unshelve)
os-simple-tenant-usage:list: list the usage of all projects
os-simple-tenant-usage:show: see the usage of a project | GET /os-simple-tenant-usage/{id}
servers:allow_all_filters: use all filters in a list of servers | GET /servers, GET /servers/detail
servers:create:forced_host: name the host of a new server, which the scheduler then does not check | POST /servers
servers:detail:get_all_tenants: list the servers of all projects with their details | GET /servers/detail
servers:index:get_all_tenants: list the servers of all projects | GET /servers
servers:migrations:delete: abort a live migration | DELETE /servers/{server_id}/migrations/{id}
servers:migrations:force_complete: force a live migration to complete \
| POST /servers/{server_id}/migrations/{id}/action (force_complete)
servers:migrations:index: list the live migrations in progress of a server | GET /servers/{server_id}/migrations
servers:migrations:index:host: see the hosts in the list of a server's live migrations \
| GET /servers/{server_id}/migrations
servers:migrations:show: see one live migration in progress of a server | GET /servers/{server_id}/migrations/{id}
servers:show:host_status: see the status of a server's host | GET /servers/{id}, GET /servers/detail, \
PUT /servers/{id}, POST /servers/{id}/action (rebuild)
servers:show:host_status:unknown-only: see the status of a server's host only while that is unknown \
| GET /servers/{id}, GET /servers/detail, PUT /servers/{id}, POST /servers/{id}/action (rebuild)
os-admin-password: change the administrator's password in a server | POST /servers/{id}/action (changePassword)
os-attach-interfaces:create: attach a port or a network to a server | POST /servers/{server_id}/os-interface
os-attach-interfaces:delete: detach a port from a server | DELETE /servers/{server_id}/os-interface/{id}
os-attach-interfaces:list: list the ports of a server | GET /servers/{server_id}/os-interface
os-attach-interfaces:show: see one port of a server | GET /servers/{server_id}/os-interface/{id}
os-console-output: read the console output of a server | POST /servers/{id}/action (os-getConsoleOutput)
os-create-backup: back a server up in an image | POST /servers/{id}/action (createBackup)
os-deferred-delete:force: delete a server at once, even where deletion is deferred \
| POST /servers/{id}/action (forceDelete)
os-deferred-delete:restore: restore a server whose deletion is deferred | POST /servers/{id}/action (restore)
os-floating-ips:add: associate a floating IP with a server | POST /servers/{id}/action (addFloatingIp)
os-floating-ips:create: allocate a floating IP
os-floating-ips:delete: release a floating IP
os-floating-ips:list: list floating IPs
os-floating-ips:remove: dissociate a floating IP from a server | POST /servers/{id}/action (removeFloatingIp)
os-floating-ips:show: see one floating IP
os-floating-ip-pools: list the pools of floating IPs
os-multinic:add: add a fixed IP to a server | POST /servers/{id}/action (addFixedIp)
os-multinic:remove: remove a fixed IP from a server | POST /servers/{id}/action (removeFixedIp)
os-networks:list: list networks
os-networks:show: see one network
os-tenant-networks:list: list the networks of the own project
os-tenant-networks:show: see one network of the own project
os-pause-server:pause: pause a server | POST /servers/{id}/action (pause)
os-pause-server:unpause: unpause a server | POST /servers/{id}/action (unpause)
os-remote-consoles: open a remote console of a server | POST /servers/{server_id}/remote-consoles, \
POST /servers/{id}/action (os-getVNCConsole), POST /servers/{id}/action (os-getSPICEConsole), \
POST /servers/{id}/action (os-getSerialConsole)
os-rescue: boot a server from a rescue image | POST /servers/{id}/action (rescue)
os-unrescue: boot a rescued server from its own disk again | POST /servers/{id}/action (unrescue)
os-security-groups:add: add a security group to a server | POST /servers/{id}/action (addSecurityGroup)
os-security-groups:create: create a security group
os-security-groups:delete: delete a security group
os-security-groups:get: list the security groups of the own project
os-security-groups:list: list the security groups of a server | GET /servers/{server_id}/os-security-groups
os-security-groups:remove: remove a security group from a server | POST /servers/{id}/action (removeSecurityGroup)
os-security-groups:rule:create: create a rule of a security group
os-security-groups:rule:delete: delete a rule of a security group
os-security-groups:show: see one security group
os-security-groups:update: change the name and the description of a security group
os-server-password:clear: clear the encrypted password of a server | DELETE /servers/{server_id}/os-server-password
os-server-password:show: see the encrypted password of a server | GET /servers/{server_id}/os-server-password
os-server-shares:create: attach a share to a server | POST /servers/{server_id}/shares
os-server-shares:delete: detach a share from a server | DELETE /servers/{server_id}/shares/{id}
os-server-shares:index: list the shares of a server | GET /servers/{server_id}/shares
os-server-shares:show: see one share of a server | GET /servers/{server_id}/shares/{id}
os-server-tags:delete: remove one tag of a server | DELETE /servers/{server_id}/tags/{id}
os-server-tags:delete_all: remove all tags of a server | DELETE /servers/{server_id}/tags
os-server-tags:index: list the tags of a server | GET /servers/{server_id}/tags
os-server-tags:show: see whether a server has a tag | GET /servers/{server_id}/tags/{id}
os-server-tags:update: add one tag to a server | PUT /servers/{server_id}/tags/{id}
os-server-tags:update_all: replace all tags of a server | PUT /servers/{server_id}/tags
os-suspend-server:resume: resume a suspended server | POST /servers/{id}/action (resume)
os-suspend-server:suspend: suspend a server | POST /servers/{id}/action (suspend)
os-volumes:create: create a volume
os-volumes:delete: delete a volume
os-volumes:detail: list volumes with their details
os-volumes:list: list volumes
os-volumes:show: see one volume
os-volumes:snapshots:create: create a snapshot of a volume
os-volumes:snapshots:delete: delete a snapshot of a volume
os-volumes:snapshots:detail: list the snapshots of volumes with their details
os-volumes:snapshots:list: list the snapshots of volumes
os-volumes:snapshots:show: see one snapshot of a volume
os-volumes-attachments:create: attach a volume to a server | POST /servers/{server_id}/os-volume_attachments
os-volumes-attachments:delete: detach a volume from a server | DELETE /servers/{server_id}/os-volume_attachments/{id}
os-volumes-attachments:index: list the volumes that are attached to a server \
| GET /servers/{server_id}/os-volume_attachments
os-volumes-attachments:show: see one attached volume of a server | GET /servers/{server_id}/os-volume_attachments/{id}
os-volumes-attachments:swap: swap an attached volume for another | PUT /servers/{server_id}/os-volume_attachments/{id}
os-volumes-attachments:update: change whether a volume is deleted with its server \
| PUT /servers/{server_id}/os-volume_attachments/{id}
os-assisted-volume-snapshots:create: snapshot an attached volume with the help of its server's host
os-assisted-volume-snapshots:delete: delete a snapshot of an attached volume with the help of its server's host
os-server-external-events:create: report events of other services that concern servers
os-keypairs:create: create or import a key pair | POST /os-keypairs
os-keypairs:delete: delete a key pair | DELETE /os-keypairs/{id}
os-keypairs:index: list key pairs | GET /os-keypairs
os-keypairs:show: see one key pair | GET /os-keypairs/{id}
server-metadata:create: add metadata to a server | POST /servers/{server_id}/metadata
server-metadata:delete: delete one key of a server's metadata | DELETE /servers/{server_id}/metadata/{id}
server-metadata:index: list the metadata of a server | GET /servers/{server_id}/metadata
server-metadata:show: see one key of a server's metadata | GET /servers/{server_id}/metadata/{id}
server-metadata:update: set one key of a server's metadata | PUT /servers/{server_id}/metadata/{id}
server-metadata:update_all: replace the metadata of a server | PUT /servers/{server_id}/metadata
extensions: list the extensions of the API and see each
ips:index: list the addresses of a server | GET /servers/{server_id}/ips
ips:show: list the addresses of a server in one network | GET /servers/{server_id}/ips/{id}
limits: see the limits and the usage of the own project
servers:confirm_resize: confirm a resize | POST /servers/{id}/action (confirmResize)
servers:create: create servers | POST /servers
servers:create:attach_network: name the networks or ports of a new server | POST /servers
servers:create:attach_volume: name the volumes and other block devices of a new server | POST /servers
servers:create:zero_disk_flavor: boot a new server from an image, or rebuild one, with a flavor whose root disk has no \
size | POST /servers, POST /servers/{id}/action (rebuild)
servers:create:trusted_certs: name the certificates that a new server's image must be signed by | POST /servers
servers:create_image: create an image of a server | POST /servers/{id}/action (createImage)
servers:create_image:allow_volume_backed: create an image of a server whose root disk is a volume \
| POST /servers/{id}/action (createImage)
servers:delete: delete a server | DELETE /servers/{id}
servers:detail: list the servers of the own project with their details | GET /servers/detail
servers:index: list the servers of the own project | GET /servers
servers:reboot: reboot a server | POST /servers/{id}/action (reboot)
servers:rebuild: rebuild a server from an image | POST /servers/{id}/action (rebuild)
servers:rebuild:trusted_certs: name the certificates that the image of a rebuild must be signed by \
| POST /servers/{id}/action (rebuild)
servers:resize: resize a server to another flavor | POST /servers/{id}/action (resize)
servers:revert_resize: revert a resize | POST /servers/{id}/action (revertResize)
servers:show: see one server | GET /servers/{id}
servers:show:flavor-extra-specs: see the extra specs of a server's flavor | GET /servers/{id}, GET /servers/detail, \
PUT /servers/{id}, POST /servers/{id}/action (rebuild)
servers:start: start a stopped server | POST /servers/{id}/action (os-start)
servers:stop: stop a server | POST /servers/{id}/action (os-stop)
servers:trigger_crash_dump: trigger a crash dump in a server | POST /servers/{id}/action (trigger_crash_dump)
servers:update: change the name, the addresses or the description of a server | PUT /servers/{id}
"""
