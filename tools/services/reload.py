"""SIGHUP has a service read its files again: options that are mutable are taken up, as nova's services do it."""

from __future__ import annotations

import logging
import signal
from types import FrameType

from oslo_config import cfg

from cell_service import logs
from cell_service.config import Defaults, read

log = logging.getLogger(__name__)


def on_signal(conf: cfg.ConfigOpts) -> None:
    """From now on SIGHUP reloads the files of `conf`. Called on the main thread."""
    signal.signal(signal.SIGHUP, lambda number, frame: _reload(conf, number, frame))


def _reload(conf: cfg.ConfigOpts, _number: int, _frame: FrameType | None) -> None:
    """Take up the mutable options. Files that cannot be read change nothing; oslo.config warns of options that have
    changed and are not mutable."""
    try:
        changed = conf.mutate_config_files()
    except (cfg.Error, OSError, ValueError) as error:
        log.warning("configuration not reloaded", extra=logs.about(None, reason=error))
        return
    logs.set_level(debug=read(conf, Defaults).debug)
    names = ",".join(f"[{group or 'DEFAULT'}]{name}" for group, name in changed)
    log.info("configuration reloaded", extra=logs.about(None, changed=names or "nothing"))
