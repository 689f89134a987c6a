"""The ways to other services: keystoneauth's options, in the sections where nova.conf has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from oslo_config import cfg

from cell_service.config import gathered, option
from cell_service.errors import Invalid

NO_ACCOUNT = ("none", "noauth")
"""A fixed token of an administrator, as `auth_strategy = noauth2` takes it."""
_SCOPES = ("project_id", "project_name", "system_scope", "domain_id", "domain_name", "trust_id")
_PASSWORD = ("password", "v3password")


def _account(conf: cfg.ConfigOpts, group: str, read: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options of the plugin that `auth_type` names, as far as they are set in the group or in its `auth_section`.

    Raises Invalid for a plugin that is not installed.
    """
    if read["auth_type"] in NO_ACCOUNT:
        return {}
    from keystoneauth1 import exceptions, loading  # it takes a tenth of a second, only in processes with an account

    group = read["auth_section"] or group
    try:
        options = loading.get_auth_plugin_conf_options(read["auth_type"])
    except exceptions.NoMatchingPlugin as error:
        raise Invalid(reason=f"[{group}] auth_type: there is no plugin {read['auth_type']!r}.") from error
    conf.register_opts(options, group=group)
    found = {opt.dest: conf[group][opt.dest] for opt in options}
    return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """A service, and the account that compute has there: keystoneauth's options by their names.

    `account` has those of the plugin that `auth_type` names: auth_url, username and password, or
    application_credential_id and application_credential_secret, or whatever else it takes.
    """

    GROUP: ClassVar[str] = "service_user"
    auth_type: str = option(
        cfg.StrOpt("auth_type", default="password", help="Plugin of keystoneauth; none: noauth2, without an account.")
    )
    auth_section: str | None = option(
        cfg.StrOpt("auth_section", default=None, help="Section that has the account's options, if not this one.")
    )
    account: Mapping[str, Any] = gathered(_account)
    cafile: str | None = option(
        cfg.StrOpt("cafile", default=None, help="Certificates (PEM) that the service's has to be signed by.")
    )
    certfile: str | None = option(cfg.StrOpt("certfile", default=None, help="Our own certificate (PEM)."))
    keyfile: str | None = option(cfg.StrOpt("keyfile", default=None, help="The key of our own certificate (PEM)."))
    insecure: bool = option(cfg.BoolOpt("insecure", default=False, help="Whether any certificate will do."))
    service_type: str | None = option(
        cfg.StrOpt("service_type", default=None, help="The service's type in the catalog, where it is an unusual one.")
    )
    service_name: str | None = option(cfg.StrOpt("service_name", default=None, help="Its name in the catalog."))
    valid_interfaces: tuple[str, ...] = option(
        cfg.ListOpt("valid_interfaces", default=["internal", "public"], help="Its interfaces, the first one first.")
    )
    region_name: str | None = option(cfg.StrOpt("region_name", default=None, help="Its region in the catalog."))
    endpoint_override: str | None = option(
        cfg.StrOpt("endpoint_override", default=None, help="Its URL, in place of the catalog's.")
    )
    timeout: float = option(cfg.FloatOpt("timeout", default=30.0, help="Seconds that a request may take."))

    @property
    def auth_url(self) -> str:
        """The identity service's URL; empty where the account has none."""
        return str(self.account.get("auth_url", ""))

    @property
    def plugin_options(self) -> dict[str, Any]:
        """The arguments of the authentication plugin: a password's project and domains may be left out as with
        `service_user`."""
        options = dict(self.account)
        if self.auth_type in _PASSWORD:
            if not any(name in options for name in _SCOPES):
                options["project_name"] = "service"
            for whose in ("user", "project"):
                if f"{whose}_domain_id" not in options:
                    options.setdefault(f"{whose}_domain_name", "Default")
        return options


@dataclass(frozen=True, slots=True)
class PlacementSettings(PeerSettings):
    GROUP: ClassVar[str] = "placement"


@dataclass(frozen=True, slots=True)
class GlanceSettings(PeerSettings):
    GROUP: ClassVar[str] = "glance"


@dataclass(frozen=True, slots=True)
class NeutronSettings(PeerSettings):
    GROUP: ClassVar[str] = "neutron"


@dataclass(frozen=True, slots=True)
class CinderSettings(PeerSettings):
    GROUP: ClassVar[str] = "cinder"


@dataclass(frozen=True, slots=True)
class ManilaSettings(PeerSettings):
    GROUP: ClassVar[str] = "manila"
    share_apply_policy_timeout: int = option(
        cfg.IntOpt("share_apply_policy_timeout", default=10, min=1, help="Seconds a host waits for access.")
    )


@dataclass(frozen=True, slots=True)
class BarbicanSettings(PeerSettings):
    """[barbican]: the key manager, from which hosts read the certificates of images' signers and the keys of encrypted
    volumes. Options that castellan has under names of its own mean the same as those of every service."""

    GROUP: ClassVar[str] = "barbican"
    barbican_endpoint: str | None = option(
        cfg.StrOpt("barbican_endpoint", default=None, help="As endpoint_override, which wins.")
    )
    barbican_endpoint_type: str | None = option(
        cfg.StrOpt("barbican_endpoint_type", default=None, choices=("public", "internal", "admin"),
                   help="Its interface in the catalog, before valid_interfaces.")
    )  # fmt: skip
    barbican_region_name: str | None = option(
        cfg.StrOpt("barbican_region_name", default=None, help="As region_name, which wins.")
    )
    verify_ssl: bool = option(cfg.BoolOpt("verify_ssl", default=True, help="False: as insecure."))
    verify_ssl_path: str | None = option(cfg.StrOpt("verify_ssl_path", default=None, help="As cafile, which wins."))
    number_of_retries: int = option(
        cfg.IntOpt("number_of_retries", default=60, min=1, help="How often it is polled for a new key.")
    )
    retry_delay: int = option(cfg.IntOpt("retry_delay", default=1, min=0, help="Seconds between these polls."))

    def in_common_words(self) -> BarbicanSettings:
        """The same, in the options of every service."""
        first = () if self.barbican_endpoint_type is None else (self.barbican_endpoint_type,)
        return replace(
            self,
            endpoint_override=self.endpoint_override or self.barbican_endpoint,
            region_name=self.region_name or self.barbican_region_name,
            valid_interfaces=(*first, *self.valid_interfaces),
            cafile=self.cafile or self.verify_ssl_path,
            insecure=self.insecure or not self.verify_ssl,
        )


@dataclass(frozen=True, slots=True)
class KeyManagerSettings:
    """[key_manager]: which key manager has the keys of encrypted volumes."""

    GROUP: ClassVar[str] = "key_manager"
    backend: str = option(
        cfg.StrOpt("backend", default="barbican", choices=("barbican",), deprecated_name="api_class",
                   help="Driver of castellan, which fetches keys: that for Barbican's API.")
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class LimitSettings(PeerSettings):
    """[oslo_limit]: unified limits of the identity service, and which service's they are."""

    GROUP: ClassVar[str] = "oslo_limit"
    endpoint_id: str | None = option(cfg.StrOpt("endpoint_id", default=None, help="Of the Compute API's endpoint."))
    endpoint_service_type: str = option(
        cfg.StrOpt("endpoint_service_type", default="compute", help="Finds the service where no endpoint is named.")
    )
    endpoint_region_name: str | None = option(
        cfg.StrOpt(
            "endpoint_region_name",
            default=None,
            help="Region of the endpoint for which limits are registered; unset: any.",
        )
    )


@dataclass(frozen=True, slots=True)
class NovaSettings(PeerSettings):
    """[nova]: how companions report events to compute."""

    GROUP: ClassVar[str] = "nova"


@dataclass(frozen=True, slots=True)
class KeystoneAuthtoken(PeerSettings):
    """[keystone_authtoken]: how the API validates the tokens of its users."""

    GROUP: ClassVar[str] = "keystone_authtoken"
    www_authenticate_uri: str = option(
        cfg.StrOpt("www_authenticate_uri", default="", help="Where a client without a token is sent to.")
    )
    token_cache_time: int = option(cfg.IntOpt("token_cache_time", default=10, help="Seconds a validation is valid."))
    service_token_roles: tuple[str, ...] = option(
        cfg.ListOpt(
            "service_token_roles",
            default=["service"],
            help="Roles by which a token in X-Service-Token counts as a service's.",
        )
    )
