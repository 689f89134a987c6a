"""Structured log lines, as text or JSON, with request id, cell and instance; never with a password.

    log.info("build failed", extra=about(ctx, instance=uuid, cell="cell1", host="h1", reason="no space"))

prints `… INFO compute_host.build [req-…] build failed instance=… cell=cell1 host=h1 reason='no space'`.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cell_service.context import Context

_SECRETS = (
    (re.compile(r"(\w[\w+.-]*://[^\s:/@]*:)[^\s@/]*@"), r"\1***@"),
    (re.compile(r"(,[^\s:/@,]*:)[^\s:@/,]*@"), r"\1***@"),  # of the further hosts of a transport URL
    (re.compile(r"(?i)(['\"]?(?:admin_?pass(?:word)?|password|secret|x-auth-token|x-subject-token)['\"]?\s*[=:]\s*)"
                r"(?:'[^']*'|\"[^\"]*\"|[^\s,}&]+)"), r"\1***"),
)  # fmt: skip


def masked(text: str) -> str:
    """The text with passwords in URLs, and values of fields named like secrets, replaced by ***."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def about(ctx: Context | None, **fields: object) -> dict[str, Any]:
    """The fields of a log line, for `extra=`. Those that are None are left out."""
    kept = {name: value for name, value in fields.items() if value is not None}
    return {"about": kept, "request_id": ctx.request_id if ctx is not None else ""}


class TextFormatter(logging.Formatter):
    """One line: time, process, level, logger, [request id], words, fields."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        request_id = getattr(record, "request_id", "") or "-"
        fields = "".join(f" {name}={_quoted(value)}" for name, value in getattr(record, "about", {}).items())
        line = (
            f"{moment} {record.process} {record.levelname} {record.name} [{request_id}] {record.getMessage()}{fields}"
        )
        if record.exc_info:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        return masked(line)


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "process": record.process,
            "level": record.levelname,
            "logger": record.name,
            "message": masked(record.getMessage()),
        }
        if getattr(record, "request_id", ""):
            line["request_id"] = record.request_id  # type: ignore[attr-defined]
        for name, value in getattr(record, "about", {}).items():
            line[name] = masked(str(value))
        if record.exc_info:
            line["traceback"] = masked(self.formatException(record.exc_info))
        return json.dumps(line)


def set_up(*, debug: bool = False, use_json: bool = False, log_file: str | None = None) -> None:
    """Send all log lines of this process to `log_file`, or to standard error."""
    handler: logging.Handler
    if log_file:
        Path(log_file).parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(log_file)
    else:
        handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if use_json else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    set_level(debug=debug)
    logging.getLogger("pika").setLevel(logging.CRITICAL)  # it repeats what our own lines say
    for noisy in ("urllib3", "keystoneauth", "stevedore", "alembic", "tornado.access", "openstack"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def set_level(*, debug: bool) -> None:
    """Log in detail, or as usual. Takes effect at once."""
    logging.getLogger().setLevel(logging.DEBUG if debug else logging.INFO)


def _quoted(value: object) -> str:
    text = str(value)
    return repr(text) if " " in text or not text else text
