"""Settings: nova.conf syntax and option names through oslo.config, read once into frozen dataclasses.

A section is a dataclass whose fields are made with `option(...)`; `read(conf, Section)` gives one. Every process
reads the sections it needs in its own `config.py` and passes them on; no other module handles a ConfigOpts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeVar

from oslo_config import cfg

from cell_service.errors import Invalid

S = TypeVar("S", bound="Section")
Gather = Callable[[cfg.ConfigOpts, str, Mapping[str, Any]], Mapping[str, Any]]
"""Reads values from the configuration, given the group's name and the options of the section that come before."""


class Section(Protocol):
    """A dataclass that mirrors one group of nova.conf."""

    GROUP: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, Any]]


def option(opt: cfg.Opt) -> Any:
    """A dataclass field read from this option; its default is the option's."""
    default = opt.default
    if isinstance(default, (list, dict)):
        frozen = tuple(default) if isinstance(default, list) else dict(default)
        return field(default_factory=lambda: frozen, metadata={"option": opt})
    return field(default=default, metadata={"option": opt})


def gathered(work: Gather) -> Any:
    """A dataclass field that holds what `work` reads from the group once its options are read; empty by default."""
    return field(default_factory=dict, repr=False, metadata={"gather": work})


def read(conf: cfg.ConfigOpts, section: type[S]) -> S:
    """The section as the files say. Raises Invalid for a value of the wrong type."""
    group = None if section.GROUP == "DEFAULT" else section.GROUP
    values: dict[str, Any] = {}
    for spot in dataclasses.fields(section):
        if "gather" in spot.metadata:
            values[spot.name] = spot.metadata["gather"](conf, section.GROUP, values)
            continue
        opt = spot.metadata["option"]
        conf.register_opt(opt, group=group)
        try:
            value = (conf if group is None else conf[group])[opt.dest]
        except (cfg.ConfigFileValueError, ValueError) as error:
            raise Invalid(reason=f"[{section.GROUP}] {opt.name}: {error}") from error
        values[spot.name] = tuple(value) if isinstance(value, list) else value
    return section(**values)


def load(config_files: Sequence[str] = (), overrides: dict[str, Any] | None = None) -> cfg.ConfigOpts:
    """Parse the files (later ones win). Raises Invalid when one can't be read or parsed."""
    conf = cfg.ConfigOpts()
    try:
        conf(args=[], project="nova", prog="polycell", default_config_files=list(config_files), default_config_dirs=[])
    except (cfg.ConfigFilesNotFoundError, cfg.ConfigFileParseError, cfg.ConfigFilesPermissionDeniedError) as error:
        raise Invalid(reason=str(error)) from error
    return conf


@dataclass(frozen=True, slots=True)
class Defaults:
    """[DEFAULT] as far as every process needs it."""

    GROUP: ClassVar[str] = "DEFAULT"
    host: str = option(cfg.StrOpt("host", default="localhost", help="Name of this host in its cell."))
    my_ip: str = option(
        cfg.StrOpt("my_ip", default="127.0.0.1", help="The address at which other hosts reach this one.")
    )
    state_path: str = option(
        cfg.StrOpt("state_path", default="/var/lib/nova", help="Directory for what processes keep on this machine.")
    )
    transport_url: str = option(
        cfg.StrOpt(
            "transport_url",
            default="rabbit://",
            secret=True,
            help="The queue of this process's cell, or of the global side; memory:// and local:// for one machine.",
        )
    )
    service_down_time: int = option(cfg.IntOpt("service_down_time", default=60, help="Seconds without a heartbeat."))
    report_interval: int = option(cfg.IntOpt("report_interval", default=30, help="Seconds between heartbeats."))
    debug: bool = option(cfg.BoolOpt("debug", default=False, mutable=True, help="Log what is done in detail."))
    log_file: str | None = option(cfg.StrOpt("log_file", default=None, help="File of the log; unset: standard error."))
    use_json: bool = option(cfg.BoolOpt("use_json", default=False, help="Log lines as JSON objects."))


@dataclass(frozen=True, slots=True)
class ReportSettings:
    """[oslo_reports]: where the reports of running processes go."""

    GROUP: ClassVar[str] = "oslo_reports"
    log_dir: str | None = option(
        cfg.StrOpt("log_dir", default=None,
                   help="Directory where SIGUSR2 has a process write what each of its threads does; "
                        "unset: on standard error.")
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class DatabaseSettings:
    """[database]: the cell's own database. Processes of the global side read [api_database] instead."""

    GROUP: ClassVar[str] = "database"
    connection: str = option(cfg.StrOpt("connection", default="", secret=True, help="URL of the cell's database."))
    max_pool_size: int = option(
        cfg.IntOpt("max_pool_size", default=5, help="Connections of a process that are kept open.")
    )
    max_overflow: int = option(cfg.IntOpt("max_overflow", default=10, help="Connections beyond those, for a while."))
    pool_timeout: int = option(cfg.IntOpt("pool_timeout", default=5, help="Seconds to wait for a free connection."))


@dataclass(frozen=True, slots=True)
class CellsSection:
    """[cells]: what processes of the global side expect of the servers of cells, and of their own."""

    GROUP: ClassVar[str] = "cells"
    server_patience: float = option(
        cfg.FloatOpt("server_patience", default=1.0, min=0.1,
                     help="How many times as long as usual a database or queue may take before it counts as down.")
    )  # fmt: skip
    build_patience: float = option(
        cfg.FloatOpt("build_patience", default=30.0, min=0,
                     help="Seconds that a build waits for an unreachable cell before a host of another is chosen.")
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class SecretSettings:
    """[secrets]: what protects passwords that wait in a database."""

    GROUP: ClassVar[str] = "secrets"
    keys: tuple[str, ...] = option(
        cfg.ListOpt("keys", default=[], secret=True,
                    help="Keys that wrap each database's data key: the first wraps, all unwrap.")
    )  # fmt: skip
