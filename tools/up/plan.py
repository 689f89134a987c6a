"""The plan of a cloud on one machine: names, URLs, ports, files; decided from the command line, nothing done."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import ssl
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from cell_service.db.sealing import new_key
from cell_service.errors import Invalid
from tools.hypervisors.host import PrivateHost
from tools.manage.urls import checked_database, checked_transport
from tools.up.drivers import SIMULATED, Choice

OFFSETS = {
    "compute": 0, "placement": 1, "identity": 2, "image": 3, "network": 4, "metadata": 5, "volume": 6, "console": 7,
    "share": 8, "key-manager": 9,
}  # fmt: skip
RESERVED_PORTS = 10
GLOBAL = "api"
"""The value of {cell} for the global database and queue."""
SERVICE_USERS = ("nova", "placement", "glance", "neutron", "cinder", "manila", "barbican")
METADATA_SECRET = "metadata"
WRAPPING_KEY = "secrets"
"""The name of the key that wraps the data keys of the databases, among the passwords."""
PLAIN = "plain"
"""The configuration of what listens without TLS where others have it."""
HYPERVISOR = "hypervisor"
"""The role of a private host: the only one that is always a process of its own."""
SOCKET_PATH_BYTES = 100


@dataclass(frozen=True, slots=True)
class Options:
    """The command line of `polycell up`."""

    state: Path
    port_base: int = 18700
    cells: int = 2
    hosts_per_cell: int = 2
    driver: str = "auto"
    libvirt_uri: str = ""
    uplink: bool = True
    database: tuple[str, ...] = ("embedded",)
    transport: tuple[str, ...] = ("embedded",)
    cache: str = "embedded"
    auth: str = "companion"
    workers: int = 1
    processes: bool = False
    tls_cert: str = ""
    tls_key: str = ""
    tls_ca: str = ""


@dataclass(frozen=True, slots=True)
class Process:
    """One service to run. `files` are its configuration, in order; `hosts` only of compute."""

    role: str
    files: tuple[Path, ...]
    cell: str | None = None
    host: str | None = None
    port: int = 0

    @property
    def title(self) -> str:
        return " ".join(word for word in (self.role, self.host or self.cell) if word)


@dataclass(frozen=True, slots=True)
class Plan:
    """All of it. `databases` and `transports` are by cell, and GLOBAL."""

    options: Options
    cells: tuple[str, ...]
    databases: dict[str, str]
    transports: dict[str, str]
    choice: Choice
    passwords: dict[str, str] = field(repr=False)

    @property
    def state(self) -> Path:
        return self.options.state

    @property
    def driver(self) -> str:
        return self.choice.driver

    @property
    def guest_cache(self) -> Path:
        """The directory in which the guest image is built and kept."""
        named = os.environ.get("POLYCELL_CACHE")
        return Path(named).resolve() if named else self.state / "cache" / "guest"

    @property
    def reports(self) -> Path:
        """Where processes write what their threads do, when a signal wants that."""
        return self.state / "run" / "reports"

    def private_host(self, name: str) -> PrivateHost:
        return PrivateHost(name, self.state, hide_kvm=not self.choice.kvm)

    def port(self, service: str) -> int:
        return self.options.port_base + OFFSETS[service]

    def endpoint(self, service: str) -> str:
        """The URL at which clients find the service."""
        paths = {"compute": "/v2.1", "identity": "/v3", "volume": "/v3", "share": "/v2"}
        if service == "identity" and self.options.auth not in ("companion", "noauth2"):
            return self.options.auth
        return f"{self.origin(service)}{paths.get(service, '')}"

    def origin(self, service: str) -> str:
        """Scheme and address. The metadata service, which proxies of this machine alone reach, has no TLS."""
        scheme = "https" if self.options.tls_cert and service != "metadata" else "http"
        return f"{scheme}://127.0.0.1:{self.port(service)}"

    @property
    def authorities(self) -> Path | None:
        """The certificates by which clients know the services; None without TLS."""
        return self.config("authorities").with_suffix(".pem") if self.options.tls_cert else None

    @property
    def cache_server(self) -> tuple[str, int] | None:
        """The memcached that all processes share; None: each has a cache of its own."""
        url = self.options.cache
        if url == "embedded":
            return None
        parts = urlsplit(url if "://" in url else f"memcached://{url}")
        return parts.hostname or "", parts.port or 11211

    @property
    def services(self) -> tuple[str, ...]:
        """The services that this cloud runs for itself."""
        return tuple(name for name in OFFSETS if name != "identity" or self.options.auth == "companion")

    def hosts(self, cell: str) -> tuple[str, ...]:
        return tuple(f"{cell}-host{number}" for number in range(1, self.options.hosts_per_cell + 1))

    def config(self, name: str) -> Path:
        return self.state / "etc" / f"{name}.conf"

    def processes(self) -> list[Process]:
        """The processes in the order in which they must start."""
        common, top = self.config("nova"), self.config("global")
        found = []
        if self.options.processes and self._embedded_queue:
            found += [Process("queue", (common, self.config(name)), cell=name) for name in ("global", *self.cells)]
        found += [
            Process(name, (common, top), port=self.port(name))
            for name in ("identity", "image", "network", "key-manager", "volume", "share") if name in self.services
        ]  # fmt: skip
        if self.choice.is_private:
            found += [
                Process(HYPERVISOR, (common, self.config(cell)), cell=cell, host=host)
                for cell in self.cells for host in self.hosts(cell)
            ]  # fmt: skip
        plain = (self.config(PLAIN),) if self.options.tls_cert else ()
        found += [
            Process(name, (common, top, *(plain if name == "metadata" else ())), port=self.port(name))
            for name in ("placement", "metadata", "console")
        ]
        found += [Process("api", (common, top), port=self.port("compute"))] * self.options.workers
        found.append(Process("super-conductor", (common, top)))
        for cell in self.cells:
            files = (common, self.config(cell))
            found.append(Process("conductor", files, cell=cell))
            found += [Process("compute", files, cell=cell, host=host) for host in self.hosts(cell)]
        return found

    @property
    def _embedded_queue(self) -> bool:
        return any(url.startswith("local://") for url in self.transports.values())


def plan_of(options: Options) -> Plan:
    """The plan of these options, with simulated hosts until a check of the machine has found more.

    Raises Invalid for what can't be: in one line that says what is wrong.
    """
    if not 1 <= options.port_base <= 65535 - RESERVED_PORTS:
        raise Invalid(reason=f"--port-base {options.port_base} is not between 1 and {65535 - RESERVED_PORTS}")
    for name, value, least in (("cells", options.cells, 1), ("hosts-per-cell", options.hosts_per_cell, 0),
                               ("workers", options.workers, 1)):  # fmt: skip
        if value < least:
            raise Invalid(reason=f"--{name} must be at least {least}")
    if options.workers > 1 and not options.processes:
        raise Invalid(reason="--workers needs --processes: workers are processes that share the API's port")
    cells = tuple(f"cell{number}" for number in range(1, options.cells + 1))
    databases = {
        name: checked_database(_filled("--database", options.database, name, _own_database(options, name)))
        for name in (GLOBAL, "cell0", *cells)
    }
    transports = {
        name: checked_transport(_filled("--transport", options.transport, name, _own_queue(options, name)))
        for name in (GLOBAL, *cells)
    }
    _demand_apart("--database", databases)
    _demand_apart("--transport", transports)
    if options.auth not in ("companion", "noauth2") and urlsplit(options.auth).scheme not in ("http", "https"):
        raise Invalid(reason=f"--auth {options.auth!r} is neither companion, noauth2 nor the URL of a Keystone")
    _checked_cache(options.cache)
    _check_certificate(options)
    return Plan(options, cells, databases, transports, SIMULATED, _passwords(options.state))


def _check_certificate(options: Options) -> None:
    """Raises Invalid for files that no service could listen with."""
    if not options.tls_cert:
        if options.tls_key or options.tls_ca:
            raise Invalid(reason="--tls-key and --tls-ca need --tls-cert")
        return
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(options.tls_cert, options.tls_key or None)
        ssl.create_default_context(cafile=options.tls_ca or options.tls_cert)
    except (OSError, ssl.SSLError) as error:
        raise Invalid(reason=f"--tls-cert {options.tls_cert} can't be used: {error}") from error


def _filled(option: str, values: Iterable[str], name: str, embedded: str) -> str:
    """The URL of one cell: its own `name=URL`, else the template with {cell} replaced."""
    template = "embedded"
    for value in values:
        own, equals, url = value.partition("=")
        if equals and own.isidentifier() and "://" not in own:
            if own == name:
                return url
        else:
            template = value
    if template == "embedded":
        return embedded
    if "{cell}" not in template:
        raise Invalid(reason=f"{option} {_shown(template)} must have {{cell}} in it, for each cell has its own")
    return template.replace("{cell}", name)


def _shown(url: str) -> str:
    from tools.manage.urls import masked

    return masked(url)


def _own_database(options: Options, name: str) -> str:
    return f"sqlite:///{options.state / 'db' / name}.sqlite"


def _own_queue(options: Options, name: str) -> str:
    if not options.processes:
        return f"memory://{options.state}/{name}"
    socket = options.state / "run" / f"queue-{name}.sock"
    if len(str(socket).encode()) > SOCKET_PATH_BYTES:  # what the kernel takes is short
        mark = hashlib.sha256(str(options.state).encode()).hexdigest()[:16]
        socket = Path(tempfile.gettempdir()) / f"polycell-{mark}-{name}.sock"
    return f"local://{socket}"


def _demand_apart(option: str, urls: dict[str, str]) -> None:
    if len(set(urls.values())) < len(urls):
        raise Invalid(reason=f"{option}: two cells have the same URL")


def _checked_cache(url: str) -> None:
    if url == "embedded":
        return
    parts = urlsplit(url if "://" in url else f"memcached://{url}")
    if parts.scheme not in ("memcached", "memcache") or not parts.hostname:
        raise Invalid(reason=f"--cache {url!r} is neither embedded nor like memcached://host:port")


def _passwords(state: Path) -> dict[str, str]:
    """The passwords of this cloud's accounts: made once, and kept where only the owner reads them."""
    kept = state / "etc" / "passwords.json"
    known: dict[str, str] = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    made = {
        name: known.get(name) or secrets.token_urlsafe(12)
        for name in ("admin", "demo", *SERVICE_USERS, METADATA_SECRET)
    }
    return {**made, WRAPPING_KEY: known.get(WRAPPING_KEY) or new_key()}
