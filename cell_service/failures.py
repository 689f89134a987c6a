"""Plain sentences for what drivers and sockets report: what is wrong, at which URL, and what to do about it.

Databases (`db/sql/failures.py`) and RabbitMQ (`rpc/rabbit/failures.py`) add kinds of their own to those of networks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of failure. `pattern` is found in the driver's text, or one of `codes` is the driver's code.
    `detailed`: the driver's text names something that an operator needs, and is shown too."""

    says: str
    remedy: str
    pattern: re.Pattern[str]
    codes: frozenset[str]
    detailed: bool


def kind(says: str, remedy: str, pattern: str, codes: str = "", *, detailed: bool = False) -> Kind:
    """`codes` are separated by blanks."""
    return Kind(says, remedy, re.compile(pattern or "(?!)", re.IGNORECASE), frozenset(codes.split()), detailed)


NETWORK = (
    kind("its host name is not known", "correct the name, or the name service",
         "Name or service not known|failed to resolve|name resolution|No address associated|nodename nor"),
    kind("the connection is refused: no server listens there", "start the server, or correct host and port",
         "Connection refused"),
    kind("the server does not answer in time", "see whether it runs and is not overloaded",
         "timed? ?out|timeout expired|timeout while|no connection within"),
    kind("TLS fails", "check the certificates, and whether the server has TLS at this port",
         r"\bSSL\b|\bTLS\b|certificate", detailed=True),
    kind("the host can't be reached", "check routes and firewalls", "No route to host|Network is unreachable"),
    kind("the connection broke", "see the server's log",
         "gone away|Lost connection|Broken pipe|reset by peer|closed the connection|stream connection lost|"
         "indicated EOF"),
)  # fmt: skip


def find(kinds: Iterable[Kind], text: str, code: str = "") -> Kind | None:
    """The first kind that matches; None for a failure that is new to us."""
    return next((each for each in kinds if code in each.codes or each.pattern.search(text)), None)


def sentence(found: Kind | None, text: str, where: str) -> str:
    """The failure in one sentence: what is wrong, `where` in brackets, and what to do. For an unknown kind it is the
    driver's own first line."""
    said = text.strip().partition("\n")[0]
    if found is None:
        return f"{said} ({where})"
    detail = f": {said}" if found.detailed else ""
    return f"{found.says} ({where}{detail}); {found.remedy}"
