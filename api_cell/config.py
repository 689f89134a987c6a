"""Settings of an API process: nova.conf's groups as far as the edge and the Compute API read them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import ClassVar

from oslo_config import cfg

from cell_service.config import Defaults, option, read
from cell_service.consoles.config import ConsoleAuth
from cell_service.peers.settings import KeystoneAuthtoken


@dataclass(frozen=True, slots=True)
class ApiSection:
    """[api]. The last six are ours: how much one process takes on, and for how long."""

    GROUP: ClassVar[str] = "api"
    auth_strategy: str = option(
        cfg.StrOpt(
            "auth_strategy",
            default="keystone",
            choices=["keystone", "noauth2"],
            help="keystone, or noauth2: a token USER:PROJECT is believed (tests alone).",
        )
    )
    compute_link_prefix: str | None = option(
        cfg.StrOpt(
            "compute_link_prefix",
            default=None,
            help="What links begin with in place of the address that the client used.",
        )
    )
    glance_link_prefix: str | None = option(
        cfg.StrOpt(
            "glance_link_prefix", default=None, help="What links to images begin with; unset: as those to servers."
        )
    )
    max_limit: int = option(cfg.IntOpt("max_limit", default=1000, min=1, help="Most items on one page."))
    list_records_by_skipping_down_cells: bool = option(
        cfg.BoolOpt(
            "list_records_by_skipping_down_cells",
            default=True,
            help="Lists leave out what a cell that is down has; else they answer 503.",
        )
    )
    enable_instance_password: bool = option(
        cfg.BoolOpt(
            "enable_instance_password",
            default=True,
            help="Answers to builds, rebuilds, rescues and evacuations have the password that was made.",
        )
    )
    request_timeout: float = option(cfg.FloatOpt("request_timeout", default=60.0, help="Seconds for one request."))
    worker_threads: int = option(cfg.IntOpt("worker_threads", default=40, min=1, help="More than one cell may occupy."))
    max_in_flight: int = option(cfg.IntOpt("max_in_flight", default=256, min=1, help="Beyond it: 503."))
    rate_limit: float = option(
        cfg.FloatOpt("rate_limit", default=0.0, min=0, help="Requests of a project in a second, by process; 0: any.")
    )
    rate_limit_burst: int = option(cfg.IntOpt("rate_limit_burst", default=100, min=1, help="As many at once."))
    drain_timeout: float = option(cfg.FloatOpt("drain_timeout", default=60.0, help="Seconds to finish at SIGTERM."))


@dataclass(frozen=True, slots=True)
class Resizes:
    """[DEFAULT], as far as servers are resized."""

    GROUP: ClassVar[str] = "DEFAULT"
    allow_resize_to_same_host: bool = option(
        cfg.BoolOpt("allow_resize_to_same_host", default=False, help="A resize may stay on the server's host.")
    )
    resize_confirm_window: int = option(
        cfg.IntOpt("resize_confirm_window", default=0, min=0, help="Seconds till resizes confirm themselves; 0: never.")
    )


@dataclass(frozen=True, slots=True)
class SoftDelete:
    """[DEFAULT], as far as deleted servers can be restored."""

    GROUP: ClassVar[str] = "DEFAULT"
    reclaim_instance_interval: int = option(
        cfg.IntOpt("reclaim_instance_interval", default=0, min=0,
                   help="Seconds for which a deleted server can be restored; 0: it is deleted at once.")
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Middleware:
    """[oslo_middleware]."""

    GROUP: ClassVar[str] = "oslo_middleware"
    max_request_body_size: int = option(
        cfg.IntOpt("max_request_body_size", default=114688, min=1, help="Bytes of a request's body.")
    )
    enable_proxy_headers_parsing: bool = option(
        cfg.BoolOpt(
            "enable_proxy_headers_parsing",
            default=False,
            help="Links follow X-Forwarded-Proto, -Host and -Prefix: only behind a proxy that sets them.",
        )
    )


@dataclass(frozen=True, slots=True)
class CorsSection:
    """[cors]: pages of other origins that may use the API in a browser. The defaults are nova's, and the headers that
    name a version."""

    GROUP: ClassVar[str] = "cors"
    allowed_origin: tuple[str, ...] = option(
        cfg.ListOpt("allowed_origin", default=[], help="https://host[:port] of such pages, or *. None: no such page.")
    )
    allow_credentials: bool = option(
        cfg.BoolOpt("allow_credentials", default=True, help="Browsers may send credentials of the user.")
    )
    expose_headers: tuple[str, ...] = option(
        cfg.ListOpt(
            "expose_headers",
            default=["X-Auth-Token", "X-Openstack-Request-Id", "X-Subject-Token", "X-Service-Token",
                     "OpenStack-API-Version", "X-OpenStack-Nova-API-Version"],
            help="Headers of answers that scripts may read.",
        )
    )  # fmt: skip
    max_age: int = option(cfg.IntOpt("max_age", default=3600, help="Seconds for which a browser keeps a preflight."))
    allow_methods: tuple[str, ...] = option(
        cfg.ListOpt(
            "allow_methods",
            default=["GET", "PUT", "POST", "DELETE", "PATCH"],
            help="Methods that pages of other origins may use.",
        )
    )
    allow_headers: tuple[str, ...] = option(
        cfg.ListOpt(
            "allow_headers",
            default=["X-Auth-Token", "X-Openstack-Request-Id", "X-Identity-Status", "X-Roles", "X-Service-Catalog",
                     "X-User-Id", "X-Tenant-Id", "OpenStack-API-Version", "X-OpenStack-Nova-API-Version"],
            help="Headers that scripts may send, besides the simple ones.",
        )
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class PolicySection:
    """[oslo_policy]."""

    GROUP: ClassVar[str] = "oslo_policy"
    policy_file: str | None = option(cfg.StrOpt("policy_file", default=None, help="Overrides, as YAML."))
    policy_dirs: tuple[str, ...] = option(
        cfg.MultiStrOpt("policy_dirs", default=[], help="Directories of more such files, which win over it.")
    )
    enforce_scope: bool = option(
        cfg.BoolOpt(
            "enforce_scope",
            default=True,
            help="A token of another scope (system, domain) than a rule is for is refused.",
        )
    )
    enforce_new_defaults: bool = option(
        cfg.BoolOpt("enforce_new_defaults", default=True, help="False: who might by the former default still may.")
    )


OF_THE_NETWORK = ("fixed_ips", "floating_ips", "security_groups", "security_group_rules")
"""Resources that the network service counts and limits: the limits that older versions set here are only shown."""


class QuotaDriver(StrEnum):
    """The source of projects' limits: our own tables, the identity service, or none."""

    RECORDED = "nova.quota.DbQuotaDriver"
    UNIFIED = "nova.quota.UnifiedLimitsDriver"
    NONE = "nova.quota.NoopQuotaDriver"


@dataclass(frozen=True, slots=True)
class Quota:
    """[quota]: what a project may have where neither it nor its class says otherwise. -1: no limit."""

    GROUP: ClassVar[str] = "quota"
    driver: str = option(
        cfg.StrOpt(
            "driver",
            default=QuotaDriver.RECORDED.value,
            choices=[each.value for each in QuotaDriver],
            help="Where limits are: tables of Polycell, unified limits of the identity service, or nowhere.",
        )
    )
    unified_limits_resource_strategy: str = option(
        cfg.StrOpt("unified_limits_resource_strategy", default="require", choices=["require", "ignore"],
                   help="require: what the list names has the limit 0 unless it is registered. "
                   "ignore: only what it names may be had without being registered.")
    )  # fmt: skip
    unified_limits_resource_list: tuple[str, ...] = option(
        cfg.ListOpt("unified_limits_resource_list", default=["servers"], help="Resources that the strategy is about.")
    )
    instances: int = option(cfg.IntOpt("instances", default=10, min=-1, help="Servers of a project; -1: any number."))
    cores: int = option(
        cfg.IntOpt("cores", default=20, min=-1, help="Virtual processors of a project's servers; -1: any number.")
    )
    ram: int = option(
        cfg.IntOpt("ram", default=51200, min=-1, help="Memory of a project's servers, MiB; -1: any amount.")
    )
    metadata_items: int = option(
        cfg.IntOpt("metadata_items", default=128, min=-1, help="Items of metadata of one server; -1: any number.")
    )
    injected_files: int = option(
        cfg.IntOpt("injected_files", default=5, min=-1, help="Files of one request (before 2.57); -1: any number.")
    )
    injected_file_content_bytes: int = option(
        cfg.IntOpt("injected_file_content_bytes", default=10240, min=-1, help="Bytes of such a file; -1: any number.")
    )
    injected_file_path_length: int = option(
        cfg.IntOpt("injected_file_path_length", default=255, min=-1, help="Bytes of its path; -1: any number.")
    )
    key_pairs: int = option(cfg.IntOpt("key_pairs", default=100, min=-1, help="Key pairs of a user; -1: any number."))
    server_groups: int = option(
        cfg.IntOpt("server_groups", default=10, min=-1, help="Server groups of a project; -1: any number.")
    )
    server_group_members: int = option(
        cfg.IntOpt("server_group_members", default=10, min=-1, help="Servers of a group; -1: any number.")
    )

    def limits(self) -> dict[str, int]:
        """The limits by the names that quota sets use."""
        return {
            "instances": self.instances,
            "cores": self.cores,
            "ram": self.ram,
            "metadata_items": self.metadata_items,
            "injected_files": self.injected_files,
            "injected_file_content_bytes": self.injected_file_content_bytes,
            "injected_file_path_bytes": self.injected_file_path_length,
            "key_pairs": self.key_pairs,
            "server_groups": self.server_groups,
            "server_group_members": self.server_group_members,
            **dict.fromkeys(OF_THE_NETWORK, -1),
        }


@dataclass(frozen=True, slots=True)
class ApiDatabase:
    """[api_database]: the global database."""

    GROUP: ClassVar[str] = "api_database"
    connection: str = option(cfg.StrOpt("connection", default="", secret=True, help="URL of the global database."))
    max_pool_size: int = option(
        cfg.IntOpt("max_pool_size", default=5, help="Connections of a process that are kept open.")
    )
    max_overflow: int = option(cfg.IntOpt("max_overflow", default=20, help="Connections beyond those, for a while."))
    pool_timeout: int = option(cfg.IntOpt("pool_timeout", default=5, help="Seconds to wait for a free connection."))


@dataclass(frozen=True, slots=True)
class Zones:
    """[DEFAULT] as far as it names availability zones."""

    GROUP: ClassVar[str] = "DEFAULT"
    default_availability_zone: str = option(
        cfg.StrOpt("default_availability_zone", default="nova", help="Zone of hosts that no aggregate puts in one.")
    )
    internal_service_availability_zone: str = option(
        cfg.StrOpt(
            "internal_service_availability_zone",
            default="internal",
            help="Zone that services other than hosts are shown in.",
        )
    )
    default_schedule_zone: str | None = option(
        cfg.StrOpt("default_schedule_zone", default=None, help="Zone of servers that name none; unset: any.")
    )


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """All that an API process reads. Made without arguments it is nova.conf's defaults."""

    defaults: Defaults = field(default_factory=Defaults)
    api: ApiSection = field(default_factory=ApiSection)
    middleware: Middleware = field(default_factory=Middleware)
    cors: CorsSection = field(default_factory=CorsSection)
    policy: PolicySection = field(default_factory=PolicySection)
    quota: Quota = field(default_factory=Quota)
    zones: Zones = field(default_factory=Zones)
    resizes: Resizes = field(default_factory=Resizes)
    soft_delete: SoftDelete = field(default_factory=SoftDelete)
    consoleauth: ConsoleAuth = field(default_factory=ConsoleAuth)
    database: ApiDatabase = field(default_factory=ApiDatabase)
    identity: KeystoneAuthtoken = field(default_factory=KeystoneAuthtoken)


def _found(conf: cfg.ConfigOpts, section: PolicySection) -> PolicySection:
    """The section with the paths that oslo.policy takes: relative ones, and the defaults policy.yaml and policy.d, are
    looked for in the directories of the configuration files, in ~/.nova, ~, /etc/nova and /etc; one that is nowhere may
    still come into the directory of the last file."""
    directories = [Path(name).parent for name in conf.config_file]

    def path(name: str) -> str:
        return conf.find_file(name) or str(Path(directories[-1] if directories else "/etc/nova", name))

    dirs = section.policy_dirs or ("policy.d",)
    return replace(
        section,
        policy_file=path(section.policy_file or "policy.yaml"),
        policy_dirs=tuple(path(name) for name in dirs if name),
    )


def read_settings(conf: cfg.ConfigOpts) -> ApiSettings:
    """The settings as the files say. Raises Invalid for a value of the wrong type."""
    return ApiSettings(
        defaults=read(conf, Defaults),
        api=read(conf, ApiSection),
        middleware=read(conf, Middleware),
        cors=read(conf, CorsSection),
        policy=_found(conf, read(conf, PolicySection)),
        quota=read(conf, Quota),
        zones=read(conf, Zones),
        resizes=read(conf, Resizes),
        soft_delete=read(conf, SoftDelete),
        consoleauth=read(conf, ConsoleAuth),
        database=read(conf, ApiDatabase),
        identity=read(conf, KeystoneAuthtoken),
    )
