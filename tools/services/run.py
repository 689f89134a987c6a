"""`polycell service ROLE`: one service in the foreground, until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import gc
import logging
import signal
import threading

from cell_service import logs
from cell_service.config import Defaults, ReportSettings, load, read
from tools.services import reload, report
from tools.services.compose import Composer
from tools.services.unknown_options import unknown_options

log = logging.getLogger(__name__)


def run(args: argparse.Namespace) -> int:
    """Serve until a signal. 0 stopped; 1 it could not start."""
    import setproctitle

    setproctitle.setproctitle(f"polycell: {args.title or args.role}")
    conf = load(args.config_file)
    settings = read(conf, Defaults)
    logs.set_up(debug=settings.debug, use_json=settings.use_json, log_file=settings.log_file)
    for name in unknown_options(args.config_file):
        log.warning("option is not known and has no effect", extra=logs.about(None, option=name))
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    report.on_signal(args.title or args.role, read(conf, ReportSettings).log_dir)
    reload.on_signal(conf)
    part = Composer(args.config_file).part(
        args.role, host=args.host, port=args.port, address=args.address, reuse_port=args.role in ("api", "placement")
    )
    part.start()
    gc.collect()
    gc.freeze()
    log.info("started", extra={"about": {"role": args.role, "host": args.host or None}})
    ended.wait()
    part.stop()
    log.info("stopped", extra={"about": {"role": args.role}})
    return 0
