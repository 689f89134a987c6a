"""The settings of nova.conf that the commands need."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from api_cell.config import ApiDatabase
from cell_service.config import DatabaseSettings, Defaults, SecretSettings, load, read
from cell_service.errors import Invalid
from cell_service.peers.settings import CinderSettings, NeutronSettings, PlacementSettings
from mapping_db.locating.shared_cache import CacheSettings

DEFAULT_FILES = ("/etc/nova/nova.conf", "/etc/polycell/nova.conf")
FILES_VARIABLE = "POLYCELL_CONFIG_FILES"
"""The environment variable that names the files, with `:` between them; `openrc` of `polycell up` sets it."""
NO_TRANSPORT = ("", "rabbit://")
"""The value of [DEFAULT] transport_url where it is not set."""


@dataclass(frozen=True, slots=True)
class Settings:
    """`api_database` is the global database, `database` the own cell's; URLs are "" where not set. `files`: where these
    settings are from."""

    api_database: str = ""
    database: str = ""
    transport_url: str = ""
    placement: PlacementSettings = field(default_factory=PlacementSettings)
    neutron: NeutronSettings = field(default_factory=NeutronSettings)
    cinder: CinderSettings = field(default_factory=CinderSettings)
    cache: CacheSettings = field(default_factory=CacheSettings)
    service_down_seconds: float = 60.0
    secret_keys: tuple[str, ...] = field(default=(), repr=False)
    files: tuple[str, ...] = ()

    def lacks(self, option: str) -> Invalid:
        """The error that this option, which the command needs, is not set."""
        if self.files:
            return Invalid(reason=f"{option} is not set in {', '.join(self.files)}")
        looked = ", ".join(DEFAULT_FILES)
        return Invalid(reason=f"no configuration file was found: {looked} were looked for; give --config-file")


def chosen_files(config_files: Sequence[str], default_files: Sequence[str] = DEFAULT_FILES) -> list[str]:
    """The chosen files: these, or without any those that the environment names, else the first default file that is
    there."""
    named = [name for name in os.environ.get(FILES_VARIABLE, "").split(os.pathsep) if name]
    return list(config_files) or named or [name for name in default_files if Path(name).is_file()][:1]


def read_settings(config_files: Sequence[str], default_files: Sequence[str] = DEFAULT_FILES) -> Settings:
    """The settings of the chosen files. Raises Invalid."""
    files = chosen_files(config_files, default_files)
    conf = load(files)
    transport_url = read(conf, Defaults).transport_url
    return Settings(
        api_database=read(conf, ApiDatabase).connection,
        database=read(conf, DatabaseSettings).connection,
        transport_url="" if transport_url in NO_TRANSPORT else transport_url,
        placement=read(conf, PlacementSettings),
        neutron=read(conf, NeutronSettings),
        cinder=read(conf, CinderSettings),
        cache=read(conf, CacheSettings),
        service_down_seconds=read(conf, Defaults).service_down_time,
        secret_keys=read(conf, SecretSettings).keys,
        files=tuple(files),
    )
