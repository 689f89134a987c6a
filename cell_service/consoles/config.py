"""The options of consoles in the configuration file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from oslo_config import cfg

from cell_service.config import option, read


@dataclass(frozen=True, slots=True)
class Vnc:
    """[vnc]"""

    GROUP: ClassVar[str] = "vnc"
    enabled: bool = option(cfg.BoolOpt("enabled", default=True, help="Guests have VNC consoles."))
    novncproxy_base_url: str = option(
        cfg.StrOpt("novncproxy_base_url", default="http://127.0.0.1:6080/vnc_auto.html", help="What users open.")
    )


@dataclass(frozen=True, slots=True)
class Spice:
    """[spice]"""

    GROUP: ClassVar[str] = "spice"
    enabled: bool = option(cfg.BoolOpt("enabled", default=False, help="Guests have SPICE consoles."))
    html5proxy_base_url: str = option(
        cfg.StrOpt("html5proxy_base_url", default="http://127.0.0.1:6082/spice_auto.html", help="What users open.")
    )


@dataclass(frozen=True, slots=True)
class SerialConsole:
    """[serial_console]"""

    GROUP: ClassVar[str] = "serial_console"
    enabled: bool = option(cfg.BoolOpt("enabled", default=False, help="Guests have serial consoles."))
    base_url: str = option(cfg.StrOpt("base_url", default="ws://127.0.0.1:6083/", help="What users open."))


@dataclass(frozen=True, slots=True)
class ConsoleAuth:
    """[consoleauth]"""

    GROUP: ClassVar[str] = "consoleauth"
    token_ttl: int = option(cfg.IntOpt("token_ttl", default=600, min=0, help="Seconds for which a token is valid."))


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
            "serial": (self.serial.enabled, self.serial.base_url),
        }
        enabled, url = known.get(kind, (False, ""))
        return url if enabled else None


def console_settings(conf: cfg.ConfigOpts) -> ConsoleSettings:
    """Raises Invalid."""
    return ConsoleSettings(read(conf, Vnc), read(conf, Spice), read(conf, SerialConsole))
