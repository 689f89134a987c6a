"""The settings of the metadata service and of config drives, from the configuration file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from oslo_config import cfg

from cell_service.config import option, read
from cell_service.errors import Invalid
from cell_service.peers.settings import PeerSettings

_OLD = "1.0 2007-01-19 2007-03-01 2007-08-29 2007-10-10 2007-12-15 2008-02-01 2008-09-01"


@dataclass(frozen=True, slots=True)
class ApiOptions:
    """[api], as far as it is about metadata. Times in seconds."""

    GROUP: ClassVar[str] = "api"
    metadata_cache_expiration: int = option(
        cfg.IntOpt(
            "metadata_cache_expiration",
            default=15,
            min=0,
            help="Seconds for which the metadata of a server is kept; 0: it is read for each request.",
        )
    )
    local_metadata_per_cell: bool = option(
        cfg.BoolOpt(
            "local_metadata_per_cell",
            default=False,
            help="The metadata service serves its own cell alone, and needs no global database.",
        )
    )
    dhcp_domain: str = option(
        cfg.StrOpt(
            "dhcp_domain",
            default="novalocal",
            help="What follows the name of a server in its metadata's host name; empty: nothing.",
        )
    )
    use_forwarded_for: bool = option(
        cfg.BoolOpt(
            "use_forwarded_for",
            default=False,
            help="Take a client's address from X-Forwarded-For: only behind a proxy that sets it.",
        )
    )
    config_drive_skip_versions: str = option(
        cfg.StrOpt(
            "config_drive_skip_versions",
            default=_OLD,
            help="Versions of the EC2 metadata that a config drive lacks, by spaces.",
        )
    )
    vendordata_providers: tuple[str, ...] = option(
        cfg.ListOpt(
            "vendordata_providers", default=["StaticJSON"], help="Where vendor data come from: StaticJSON, DynamicJSON."
        )
    )
    vendordata_jsonfile_path: str | None = option(
        cfg.StrOpt("vendordata_jsonfile_path", default=None, help="JSON file that StaticJSON gives to every server.")
    )
    vendordata_dynamic_targets: tuple[str, ...] = option(
        cfg.ListOpt("vendordata_dynamic_targets", default=[], help="Each name@url.")
    )
    vendordata_dynamic_ssl_certfile: str = option(
        cfg.StrOpt(
            "vendordata_dynamic_ssl_certfile",
            default="",
            help="Certificates of authorities that the targets of DynamicJSON are verified by; empty: the usual ones.",
        )
    )
    vendordata_dynamic_connect_timeout: int = option(
        cfg.IntOpt(
            "vendordata_dynamic_connect_timeout",
            default=5,
            min=3,
            help="Seconds to connect to a target of DynamicJSON.",
        )
    )
    vendordata_dynamic_read_timeout: int = option(
        cfg.IntOpt("vendordata_dynamic_read_timeout", default=5, min=0, help="Seconds to read its answer.")
    )
    vendordata_dynamic_failure_fatal: bool = option(
        cfg.BoolOpt(
            "vendordata_dynamic_failure_fatal",
            default=False,
            help="A target that fails makes the request fail, else its part is left out.",
        )
    )


@dataclass(frozen=True, slots=True)
class ProxyOptions:
    """[neutron], as far as it is about the proxy between guests and the metadata service."""

    GROUP: ClassVar[str] = "neutron"
    service_metadata_proxy: bool = option(
        cfg.BoolOpt(
            "service_metadata_proxy",
            default=False,
            help="Requests for metadata come through the network service's proxy, signed.",
        )
    )
    metadata_proxy_shared_secret: str = option(
        cfg.StrOpt(
            "metadata_proxy_shared_secret", default="", secret=True, help="The secret by which that proxy signs."
        )
    )


@dataclass(frozen=True, slots=True)
class DefaultOptions:
    """[DEFAULT], as far as it is about metadata."""

    GROUP: ClassVar[str] = "DEFAULT"
    metadata_listen: str = option(
        cfg.StrOpt("metadata_listen", default="0.0.0.0", help="Address on which the metadata service listens.")
    )
    metadata_listen_port: int = option(cfg.PortOpt("metadata_listen_port", default=8775, help="Its port."))
    force_config_drive: bool = option(
        cfg.BoolOpt("force_config_drive", default=False, help="Every server gets a config drive.")
    )


@dataclass(frozen=True, slots=True)
class VendordataAuth(PeerSettings):
    """[vendordata_dynamic_auth]: the account for requests to targets; without `auth_url` there is none."""

    GROUP: ClassVar[str] = "vendordata_dynamic_auth"


@dataclass(frozen=True, slots=True)
class MetadataSettings:
    """Without arguments it has nova.conf's defaults."""

    api: ApiOptions = field(default_factory=ApiOptions)
    proxy: ProxyOptions = field(default_factory=ProxyOptions)
    defaults: DefaultOptions = field(default_factory=DefaultOptions)
    vendordata_auth: VendordataAuth = field(default_factory=VendordataAuth)

    @property
    def skipped_versions(self) -> frozenset[str]:
        """The versions that are left out of a config drive."""
        return frozenset(self.api.config_drive_skip_versions.split())


def read_settings(conf: cfg.ConfigOpts) -> MetadataSettings:
    """Raises Invalid, also for a proxy without a secret: anyone could forge its signature."""
    made = MetadataSettings(
        read(conf, ApiOptions), read(conf, ProxyOptions), read(conf, DefaultOptions), read(conf, VendordataAuth)
    )
    unknown = set(made.api.vendordata_providers) - {"StaticJSON", "DynamicJSON"}
    if unknown:
        raise Invalid(reason=f"[api] vendordata_providers: {', '.join(sorted(unknown))} is none that we know")
    if made.proxy.service_metadata_proxy and not made.proxy.metadata_proxy_shared_secret:
        raise Invalid(reason="[neutron] service_metadata_proxy needs a metadata_proxy_shared_secret")
    return made
