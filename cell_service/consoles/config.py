"""The options of consoles in the configuration file."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

from oslo_config import cfg

from cell_service.config import option, read
from cell_service.errors import Invalid

_LISTEN = (
    "Where a libvirt host's consoles listen: an address, or a directory for sockets, which the proxy must reach, too."
    " {host} is the host's name."
)
_REACHED = "The address at which the proxy reaches a libvirt host's consoles. {host} is the host's name."
_LAST_PORT = 65535
_SCHEMES = cfg.types.String(choices=["none", "vencrypt"])


@dataclass(frozen=True, slots=True)
class Vnc:
    """[vnc]"""

    GROUP: ClassVar[str] = "vnc"
    enabled: bool = option(cfg.BoolOpt("enabled", default=True, help="Guests have VNC consoles."))
    novncproxy_base_url: str = option(
        cfg.StrOpt("novncproxy_base_url", default="http://127.0.0.1:6080/vnc_auto.html", help="What users open.")
    )
    server_listen: str = option(cfg.StrOpt("server_listen", default="127.0.0.1", help=_LISTEN))
    server_proxyclient_address: str = option(
        cfg.StrOpt("server_proxyclient_address", default="127.0.0.1", help=_REACHED)
    )
    auth_schemes: tuple[str, ...] = option(
        cfg.ListOpt(
            "auth_schemes",
            item_type=_SCHEMES,
            default=["none"],
            help="What the proxy takes of the security that a host offers for VNC, the best first: none; vencrypt for"
            " TLS with certificates (X509None).",
        )
    )
    vencrypt_ca_certs: str | None = option(
        cfg.StrOpt("vencrypt_ca_certs", default=None, help="Hosts need a certificate of one of these authorities.")
    )
    vencrypt_client_cert: str | None = option(
        cfg.StrOpt("vencrypt_client_cert", default=None, help="The certificate that the proxy shows to hosts.")
    )
    vencrypt_client_key: str | None = option(
        cfg.StrOpt("vencrypt_client_key", default=None, help="Its key, unless vencrypt_client_cert has it.")
    )


@dataclass(frozen=True, slots=True)
class Spice:
    """[spice]"""

    GROUP: ClassVar[str] = "spice"
    enabled: bool = option(cfg.BoolOpt("enabled", default=False, help="Guests have SPICE consoles."))
    html5proxy_base_url: str = option(
        cfg.StrOpt("html5proxy_base_url", default="http://127.0.0.1:6082/spice_auto.html", help="What users open.")
    )
    spice_direct_proxy_base_url: str = option(
        cfg.StrOpt(
            "spice_direct_proxy_base_url",
            default="http://127.0.0.1:13002/nova",
            help="What users open for consoles of the type spice-direct: a program of the operator's, which looks the"
            " token up and has SPICE clients connect to the host.",
        )
    )
    server_listen: str = option(cfg.StrOpt("server_listen", default="127.0.0.1", help=_LISTEN))
    server_proxyclient_address: str = option(
        cfg.StrOpt("server_proxyclient_address", default="127.0.0.1", help=_REACHED)
    )


@dataclass(frozen=True, slots=True)
class SerialConsole:
    """[serial_console]"""

    GROUP: ClassVar[str] = "serial_console"
    enabled: bool = option(cfg.BoolOpt("enabled", default=False, help="Guests have serial consoles."))
    base_url: str = option(cfg.StrOpt("base_url", default="ws://127.0.0.1:6083/", help="What users open."))
    port_range: str = option(
        cfg.StrOpt("port_range", default="10000:20000", help="Ports of a host's serial consoles, FIRST:LAST.")
    )
    proxyclient_address: str = option(
        cfg.StrOpt(
            "proxyclient_address",
            default="127.0.0.1",
            help="Where a libvirt host's serial consoles listen, and the proxy reaches them: an address, or a directory"
            " for sockets. {host} is the host's name.",
        )
    )

    @property
    def ports(self) -> range:
        """Raises Invalid."""
        first, colon, last = self.port_range.partition(":")
        if not (colon and first.isdecimal() and last.isdecimal() and 0 < int(first) <= int(last) <= _LAST_PORT):
            raise Invalid(reason=f"[serial_console] port_range: {self.port_range} is not FIRST:LAST")
        return range(int(first), int(last) + 1)


@dataclass(frozen=True, slots=True)
class ConsoleAuth:
    """[consoleauth]"""

    GROUP: ClassVar[str] = "consoleauth"
    token_ttl: int = option(cfg.IntOpt("token_ttl", default=600, min=0, help="Seconds for which a token is valid."))
    enforce_session_timeout: bool = option(
        cfg.BoolOpt("enforce_session_timeout", default=False, help="An open console is closed when its token expires.")
    )


@dataclass(frozen=True, slots=True)
class ConsoleProxySettings:
    """[DEFAULT], as the proxy reads it."""

    GROUP: ClassVar[str] = "DEFAULT"
    web: str = option(cfg.StrOpt("web", default="", help="A directory with a viewer's files, such as noVNC's."))


@dataclass(frozen=True, slots=True)
class ConsoleOrigins:
    """[console]"""

    GROUP: ClassVar[str] = "console"
    allowed_origins: tuple[str, ...] = option(
        cfg.ListOpt("allowed_origins", default=[], help="Hosts whose pages may open consoles, besides the proxy's own.")
    )


@dataclass(frozen=True, slots=True)
class ConsoleSettings:
    """Which consoles a host offers, and where users open them."""

    vnc: Vnc = field(default_factory=Vnc)
    spice: Spice = field(default_factory=Spice)
    serial: SerialConsole = field(default_factory=SerialConsole)

    def base_url(self, kind: str) -> str | None:
        """The URL of the proxy; None when there are no consoles of that kind."""
        known = {
            "novnc": (self.vnc.enabled, self.vnc.novncproxy_base_url),
            "spice-html5": (self.spice.enabled, self.spice.html5proxy_base_url),
            "spice-direct": (self.spice.enabled, self.spice.spice_direct_proxy_base_url),
            "serial": (self.serial.enabled, self.serial.base_url),
        }
        enabled, url = known.get(kind, (False, ""))
        return url if enabled else None

    def for_host(self, name: str) -> ConsoleSettings:
        """The settings of one of several hosts that share their configuration: {host} is replaced by the name."""
        return ConsoleSettings(
            replace(
                self.vnc,
                server_listen=self.vnc.server_listen.replace("{host}", name),
                server_proxyclient_address=self.vnc.server_proxyclient_address.replace("{host}", name),
            ),
            replace(
                self.spice,
                server_listen=self.spice.server_listen.replace("{host}", name),
                server_proxyclient_address=self.spice.server_proxyclient_address.replace("{host}", name),
            ),
            replace(self.serial, proxyclient_address=self.serial.proxyclient_address.replace("{host}", name)),
        )


def console_settings(conf: cfg.ConfigOpts) -> ConsoleSettings:
    """Raises Invalid."""
    serial = read(conf, SerialConsole)
    _ = serial.ports
    return ConsoleSettings(read(conf, Vnc), read(conf, Spice), serial)
