"""The files of a cloud on one machine: nova.conf for each role, and what clients need."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests.utils

from tools.manage.settings import FILES_VARIABLE
from tools.up.drivers import BRIDGED, USER
from tools.up.plan import GLOBAL, METADATA_SECRET, PLAIN, WRAPPING_KEY, Plan
from tools.up.volumes import volume_options

REPORT_SECONDS = 5
DOWN_SECONDS = 20
REGION = "RegionOne"

Sections = Mapping[str, Mapping[str, object]]


def write_secret(path: Path, text: str) -> None:
    """Replace the file as a whole; only its owner may read it."""
    draft = path.with_name(f".{path.name}.new")
    draft.touch(mode=0o600)
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def write_configs(plan: Plan) -> None:
    """All configuration files, as this plan has it."""
    write_secret(plan.config("passwords").with_suffix(".json"), json.dumps(plan.passwords))
    if plan.authorities is not None:
        write_secret(plan.authorities, _authorities(plan))
        _write(plan.config(PLAIN), {"ssl": {"cert_file": "", "key_file": ""}})
    _write(plan.config("nova"), _common(plan))
    _write(plan.config("global"), _global(plan))
    for cell in plan.cells:
        _write(plan.config(cell), _cell(plan, cell))


def write_clients(plan: Plan) -> None:
    """`openrc` and `clouds.yaml`."""
    write_secret(plan.state / "openrc", _openrc(plan))
    write_secret(plan.state / "clouds.yaml", _clouds(plan))


def _authorities(plan: Plan) -> str:
    """The authorities that are known anyway, for other services that the accounts may reach, and the cloud's own."""
    known = Path(os.environ.get("OS_CACERT") or requests.utils.DEFAULT_CA_BUNDLE_PATH).read_text(encoding="utf-8")
    own = Path(plan.options.tls_ca or plan.options.tls_cert).read_text(encoding="utf-8")
    certificates = re.findall(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", own, re.DOTALL)
    return known + "\n" + "".join(certificates)


def programs() -> Path:
    """The directory of this installation's programs, the openstack client among them."""
    return Path(sys.executable).parent


def credentials(plan: Plan, user: str) -> dict[str, str]:
    """The credentials with which `user` (admin or demo) logs in."""
    project = user
    if plan.options.auth == "noauth2":
        return {"username": user, "project_name": project, "project_id": project, "token": f"{user}:{project}"}
    if plan.options.auth != "companion":
        return {
            "username": os.environ.get("OS_USERNAME", user),
            "password": os.environ.get("OS_PASSWORD", ""),
            "project_name": os.environ.get("OS_PROJECT_NAME", project),
            "user_domain_name": os.environ.get("OS_USER_DOMAIN_NAME", "Default"),
            "project_domain_name": os.environ.get("OS_PROJECT_DOMAIN_NAME", "Default"),
            "auth_url": plan.endpoint("identity"),
        }
    return {
        "username": user,
        "password": plan.passwords[user],
        "project_name": project,
        "user_domain_name": "Default",
        "project_domain_name": "Default",
        "auth_url": plan.endpoint("identity"),
    }


def verified_by(authorities: Path | None) -> str | bool:
    """The value of requests' `verify` argument and its kin."""
    return True if authorities is None else str(authorities)


def region(plan: Plan) -> str:
    """The region of the catalogue in which the cloud's services are."""
    own = plan.options.auth in ("companion", "noauth2")
    return REGION if own else os.environ.get("OS_REGION_NAME", REGION)


def _common(plan: Plan) -> Sections:
    sections: dict[str, Mapping[str, object]] = {
        "DEFAULT": {
            "state_path": plan.state,
            "my_ip": "127.0.0.1",
            "report_interval": REPORT_SECONDS,
            "service_down_time": DOWN_SECONDS,
            "allow_resize_to_same_host": plan.driver == "libvirt",
        },
        "companions": {"data_path": plan.state / "companions", **volume_options(plan.choice)},
        "placement": _account(plan, "placement", plan.endpoint("placement")),
        "glance": _account(plan, "glance", plan.endpoint("image")),
        "neutron": {
            **_account(plan, "neutron", plan.endpoint("network")),
            "service_metadata_proxy": True,
            "metadata_proxy_shared_secret": plan.passwords[METADATA_SECRET],
        },
        "cinder": _account(plan, "cinder", plan.endpoint("volume")),
        "manila": _account(plan, "manila", plan.endpoint("share")),
        "barbican": _account(plan, "barbican", plan.endpoint("key-manager")),
        "nova": _account(plan, "nova", plan.endpoint("compute")),
        "oslo_limit": _account(plan, "nova", plan.endpoint("identity")),
        "keystone_authtoken": _account(plan, "nova", None) | {"www_authenticate_uri": plan.endpoint("identity")},
        "oslo_reports": {"log_dir": plan.reports},
        "secrets": {"keys": plan.passwords[WRAPPING_KEY]},
        "api": {"auth_strategy": "noauth2" if plan.options.auth == "noauth2" else "keystone"},
    }
    if plan.options.tls_cert:
        sections["ssl"] = {
            "cert_file": plan.options.tls_cert,
            "key_file": plan.options.tls_key or plan.options.tls_cert,
        }
    if plan.cache_server is not None:
        sections["cache"] = {
            "enabled": True,
            "backend": "dogpile.cache.pymemcache",
            "memcache_servers": "{}:{}".format(*plan.cache_server),
        }
    return sections


def _global(plan: Plan) -> Sections:
    return {
        **_wiring(plan),
        "DEFAULT": {"transport_url": plan.transports[GLOBAL], "host": "super", "metadata_listen": "127.0.0.1"},
        "api_database": {"connection": plan.databases[GLOBAL]},
    }


def _wiring(plan: Plan) -> Sections:
    """The settings that the network companion needs to move packets."""
    if plan.choice.networking != BRIDGED:
        return {}
    return {
        "wiring": {
            "enabled": True,
            "hypervisors": plan.state / "run" / "hypervisors",
            "uplink": plan.options.uplink,
            "metadata_url": plan.endpoint("metadata"),
            "secret": plan.passwords[METADATA_SECRET],
            "name": hashlib.sha256(str(plan.state).encode()).hexdigest()[:6],
        }
    }


def _cell(plan: Plan, cell: str) -> Sections:
    return {
        "DEFAULT": {
            "transport_url": plan.transports[cell],
            "host": cell,
            "instances_path": plan.state / "hosts" / cell,
            **_hosts(plan),
        },
        "database": {"connection": plan.databases[cell]},
        **_consoles(plan),
        **_libvirt(plan),
    }


def _consoles(plan: Plan) -> Sections:
    """All kinds of consoles, by the one proxy of the cloud. Those of private hosts are at sockets: the proxy is not in
    their networks."""
    proxy = plan.endpoint("console")
    private = plan.driver == "libvirt" and plan.choice.is_private
    sockets = plan.private_host("{host}").run if private else None
    listen = {} if sockets is None else {"server_listen": sockets}
    return {
        "vnc": {"novncproxy_base_url": f"{proxy}/vnc_auto.html", **listen},
        "spice": {"enabled": True, "html5proxy_base_url": f"{proxy}/spice_auto.html", **listen},
        "serial_console": {
            "enabled": True,
            "base_url": f"{proxy.replace('http', 'ws', 1)}/",
            **({} if sockets is None else {"proxyclient_address": sockets}),
        },
    }


def _hosts(plan: Plan) -> dict[str, object]:
    """Options of [DEFAULT] for the hosts of any cell: real ones share the machine evenly."""
    if plan.driver != "libvirt":
        return {"compute_driver": "simulated.SimulatedDriver"}
    count = max(1, len(plan.cells) * plan.options.hosts_per_cell)
    memory_mib = _memory_mib()
    disk = shutil.disk_usage(plan.state)
    disk_mib, free_mib = disk.total // 2**20, disk.free // 2**20
    return {
        "compute_driver": "libvirt.LibvirtDriver",
        "reserved_host_memory_mb": memory_mib - memory_mib * 9 // 10 // count,
        "reserved_host_disk_mb": disk_mib - free_mib * 9 // 10 // count,
        "resume_guests_state_on_host_boot": True,
        "force_config_drive": plan.choice.networking == USER,
        "shutdown_timeout": 20,
    }


def _memory_mib() -> int:
    """The machine's memory as libvirt counts it: of its NUMA nodes, where there are any."""
    nodes = [path.read_text(encoding="ascii") for path in Path("/sys/devices/system/node").glob("node*/meminfo")]
    found = [int(match.group(1)) for text in nodes if (match := re.search(r"MemTotal:\s+(\d+) kB", text))]
    return sum(found) // 1024 or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20


def _libvirt(plan: Plan) -> Sections:
    if plan.driver != "libvirt":
        return {}
    uri = plan.private_host("{host}").uri if plan.choice.is_private else plan.choice.libvirt_uri
    return {
        "libvirt": {
            "connection_uri": uri,
            "virt_type": "kvm" if plan.choice.kvm else "qemu",
            "name_prefix": "" if plan.choice.is_private else "{host}-",
            "user_networking": plan.choice.networking == USER,
        }
    }


def _account(plan: Plan, user: str, endpoint: str | None) -> dict[str, object]:
    """A service account of ours, for reaching a peer."""
    override: dict[str, object] = {} if endpoint is None else {"endpoint_override": endpoint}
    if plan.authorities is not None:
        override["cafile"] = plan.authorities
    if plan.options.auth == "noauth2":
        return {"auth_type": "none", **override}
    if plan.options.auth != "companion":
        admin = credentials(plan, "admin")
        return {
            "auth_type": "password",
            "auth_url": admin["auth_url"],
            **{name: admin[name] for name in ("username", "password", "project_name", "user_domain_name",
                                              "project_domain_name")},
            **override,
        }  # fmt: skip
    return {
        "auth_type": "password",
        "auth_url": plan.endpoint("identity"),
        "username": user,
        "password": plan.passwords[user],
        "project_name": "service",
        **override,
    }


def _write(path: Path, sections: Sections) -> None:
    lines: list[str] = []
    for name, options in sections.items():
        lines += [f"[{name}]", *(f"{key} = {_escaped(value)}" for key, value in options.items()), ""]
    write_secret(path, "\n".join(lines))


def _escaped(value: object) -> str:
    """The text with `$` doubled: oslo.config replaces $names in values."""
    return str(value).replace("$", "$$")


def _openrc(plan: Plan) -> str:
    admin = credentials(plan, "admin")
    if plan.options.auth == "noauth2":
        words = {
            "OS_AUTH_TYPE": "admin_token",
            "OS_TOKEN": admin["token"],
            "OS_ENDPOINT": plan.endpoint("compute"),
        }
    else:
        words = {
            "OS_AUTH_URL": admin["auth_url"],
            "OS_IDENTITY_API_VERSION": "3",
            "OS_USERNAME": admin["username"],
            "OS_PASSWORD": admin["password"],
            "OS_PROJECT_NAME": admin["project_name"],
            "OS_USER_DOMAIN_NAME": admin["user_domain_name"],
            "OS_PROJECT_DOMAIN_NAME": admin["project_domain_name"],
            "OS_REGION_NAME": region(plan),
        }
    if plan.authorities is not None:
        words["OS_CACERT"] = str(plan.authorities)
    exported = "".join(f"export {name}='{value}'\n" for name, value in words.items())
    files = os.pathsep.join(str(plan.config(name)) for name in ("nova", "global"))
    exported += f"export {FILES_VARIABLE}={shlex.quote(files)}\n"
    return f'{exported}export PATH={shlex.quote(str(programs()))}:"$PATH"\n'


def _clouds(plan: Plan) -> str:
    import yaml

    clouds: dict[str, Any] = {}
    for name, user in (("polycell", "admin"), ("polycell-demo", "demo")):
        known = credentials(plan, user)
        if plan.options.auth == "noauth2":
            auth = {"endpoint": plan.endpoint("compute"), "token": known["token"]}
            clouds[name] = {"auth_type": "admin_token", "auth": auth}
        else:
            clouds[name] = {"auth": known, "region_name": region(plan), "identity_api_version": "3"}
        if plan.authorities is not None:
            clouds[name]["cacert"] = str(plan.authorities)
    return str(yaml.safe_dump({"clouds": clouds}, sort_keys=False))
