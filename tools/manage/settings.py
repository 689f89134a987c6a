"""What the commands read of nova.conf."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from api_cell.config import ApiDatabase
from cell_service.config import DatabaseSettings, Defaults, SecretSettings, load, read
from cell_service.peers.settings import PlacementSettings
from mapping_db.locating.shared_cache import CacheSettings

DEFAULT_FILES = ("/etc/nova/nova.conf", "/etc/polycell/nova.conf")
NO_TRANSPORT = ("", "rabbit://")
"""The value of [DEFAULT] transport_url where it is not set."""


@dataclass(frozen=True, slots=True)
class Settings:
    """`api_database` is the global database, `database` the own cell's; URLs are "" where not set."""

    api_database: str = ""
    database: str = ""
    transport_url: str = ""
    placement: PlacementSettings = field(default_factory=PlacementSettings)
    cache: CacheSettings = field(default_factory=CacheSettings)
    service_down_seconds: float = 60.0
    secret_keys: tuple[str, ...] = field(default=(), repr=False)


def read_settings(config_files: Sequence[str], default_files: Sequence[str] = DEFAULT_FILES) -> Settings:
    """The settings of these files; without any, of the first default file that is there. Raises Invalid."""
    files = list(config_files) or [name for name in default_files if Path(name).is_file()][:1]
    conf = load(files)
    transport_url = read(conf, Defaults).transport_url
    return Settings(
        api_database=read(conf, ApiDatabase).connection,
        database=read(conf, DatabaseSettings).connection,
        transport_url="" if transport_url in NO_TRANSPORT else transport_url,
        placement=read(conf, PlacementSettings),
        cache=read(conf, CacheSettings),
        service_down_seconds=read(conf, Defaults).service_down_time,
        secret_keys=read(conf, SecretSettings).keys,
    )
