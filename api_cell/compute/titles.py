"""Titles of the API's operations and of its groups, for people who read the OpenAPI document; made from paths."""

from __future__ import annotations

_VERBS = {"GET": "Show", "POST": "Create", "PUT": "Update", "DELETE": "Delete"}
_SINGULAR = {
    "entries": "entry",
    "limits": "limits",
    "diagnostics": "diagnostics",
    "metadata": "metadata item",
    "os-aggregates": "aggregate",
    "os-floating-ip-dns": "floating IP DNS domain",
    "os-floating-ips-bulk": "range of floating IPs",
    "os-volumes_boot": "server that boots from a volume",
}
EXACT = {  # paths whose words do not say what the operation does
    ("GET", "/flavors/{flavor_id}/os-flavor-access"): "List the projects that may use a flavor",
    ("GET", "/os-quota-sets/{id}/detail"): "Show a quota set with its usage",
    ("GET", "/os-quota-sets/{id}/defaults"): "Show the default quotas of a project",
    ("GET", "/os-availability-zone"): "List availability zones",
    ("GET", "/os-availability-zone/detail"): "List availability zones with details",
    ("GET", "/os-hypervisors/statistics"): "Show the statistics of all hypervisors",
    ("GET", "/os-hypervisors/{id}/search"): "Search hypervisors by name",
    ("GET", "/os-hypervisors/{id}/servers"): "List the servers of hypervisors by name",
    ("GET", "/os-simple-tenant-usage"): "List the usage of all projects",
    ("GET", "/os-simple-tenant-usage/{id}"): "Show the usage of a project",
    ("GET", "/os-instance_usage_audit_log"): "Show the usage audit log",
    ("GET", "/os-instance_usage_audit_log/{id}"): "Show the usage audit log before a time",
    ("GET", "/servers/{server_id}/os-server-password"): "Show the password of a server",
    ("DELETE", "/servers/{server_id}/os-server-password"): "Clear the password of a server",
    ("GET", "/servers/{server_id}/os-interface"): "List interfaces of a server",
    ("POST", "/servers/{server_id}/metadata"): "Add to the metadata of a server",
    ("PUT", "/servers/{server_id}/metadata"): "Replace the metadata of a server",
    ("POST", "/images/{image_id}/metadata"): "Add to the metadata of an image",
    ("PUT", "/images/{image_id}/metadata"): "Replace the metadata of an image",
    ("POST", "/os-server-external-events"): "Report external events of servers",
    ("POST", "/os-aggregates/{id}/images"): "Cache images on the hosts of an aggregate",
    ("PUT", "/servers/{server_id}/tags/{id}"): "Add a tag to a server",
    ("GET", "/servers/{server_id}/tags/{id}"): "Check whether a server has a tag",
    ("DELETE", "/servers/{server_id}/tags/{id}"): "Remove a tag from a server",
    ("DELETE", "/servers/{server_id}/tags"): "Remove all tags from a server",
    ("DELETE", "/servers/{server_id}/migrations/{id}"): "Abort a live migration of a server",
    ("POST", "/servers/{server_id}/shares"): "Attach a share to a server",
    ("DELETE", "/servers/{server_id}/shares/{id}"): "Detach a share from a server",
    ("POST", "/servers/{server_id}/os-volume_attachments"): "Attach a volume to a server",
    ("DELETE", "/servers/{server_id}/os-volume_attachments/{id}"): "Detach a volume from a server",
    ("POST", "/servers/{server_id}/os-interface"): "Attach an interface to a server",
    ("DELETE", "/servers/{server_id}/os-interface/{id}"): "Detach an interface from a server",
    ("GET", "/os-volumes_boot"): "List servers that boot from a volume",
    ("GET", "/os-volumes_boot/detail"): "List servers that boot from a volume with details",
    ("GET", "/os-cells/capacities"): "Show the capacities of all cells",
    ("GET", "/os-cells/info"): "Show the cell that answers",
    ("POST", "/os-cells/sync_instances"): "Synchronize the instances of cells",
    ("GET", "/os-cells/{id}/capacities"): "Show the capacities of a cell",
    ("GET", "/os-cloudpipe"): "List cloudpipes",
    ("PUT", "/os-cloudpipe/{id}"): "Configure cloudpipes",
    ("GET", "/os-floating-ip-dns"): "List floating IP DNS domains",
    ("GET", "/os-floating-ips-bulk"): "List ranges of floating IPs",
    ("GET", "/os-fping"): "Ping all servers",
    ("GET", "/os-fping/{id}"): "Ping a server",
    ("POST", "/os-networks/add"): "Add a network to a project",
}
_MANY = {"GET": "List", "PUT": "Replace", "DELETE": "Delete"}
_DEEDS = {
    "enable": "Enable",
    "disable": "Disable",
    "disable-log-reason": "Disable, with a reason,",
    "force-down": "Force down",
    "startup": "Start",
    "shutdown": "Shut down",
    "reboot": "Reboot",
}
_SPOKEN = {"ips": "IPs", "ip": "IP", "dns": "DNS"}


def group(path: str) -> str:
    """The resource to which a path belongs, as people say it: `os-server-groups` is "Server groups"."""
    said = _said(path.split("/")[1])
    return said[0].upper() + said[1:]


def title(method: str, path: str) -> str:
    """One line that says what an operation does, such as "List servers with details" or "Show a tag of a server"."""
    if (method, path) in EXACT:
        return EXACT[method, path]
    parts = path.strip("/").split("/")
    last = parts.pop()
    if last == "action":
        return f"Act on {_one(_resource(parts))}"
    if last.startswith("{"):
        return f"{_VERBS[method]} {_one(parts.pop())}{_owner(parts)}"
    if last in _DEEDS:
        return f"{_DEEDS[last]} {_one(_resource(parts))}"
    if last == "detail":
        return f"List {_said(parts.pop())} with details{_owner(parts)}"
    many = last.endswith("s") and _SINGULAR.get(last) != last
    if method == "POST":
        return f"Create {_one(last)}{_owner(parts)}"
    if many:
        return f"{_MANY[method]} {_said(last)}{_owner(parts)}"
    return f"{_VERBS[method]} the {_said(last)}{_owner(parts)}"


def _owner(parts: list[str]) -> str:
    return f" of {_one(_resource(parts))}" if any(part.startswith("{") for part in parts) else ""


def _resource(parts: list[str]) -> str:
    """The last segment that is no placeholder."""
    return [part for part in parts if not part.startswith("{")][-1]


def _one(segment: str) -> str:
    said = _SINGULAR.get(segment) or _said(segment)
    if segment not in _SINGULAR and said.endswith("s"):
        said = said.removesuffix("s")
    if said.endswith("s"):
        return f"the {said}"
    return f"{'an' if said[0] in 'aeioAEIO' else 'a'} {said}"


def _said(segment: str) -> str:
    words = segment.removeprefix("os-").replace("-", " ").replace("_", " ").split()
    return " ".join(_SPOKEN.get(word, word) for word in words)
