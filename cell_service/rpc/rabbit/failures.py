"""Why RabbitMQ can't be used, in plain words: the errors of pika."""

from __future__ import annotations

from typing import Any

from cell_service import failures
from cell_service.failures import NETWORK, kind

_KINDS = (
    kind("the broker refuses the user or the password", "correct them in the transport URL, or the user on the broker",
         "ACCESS_REFUSED - Login"),
    kind("the broker has no such virtual host", "create it with `rabbitmqctl add_vhost`, or correct the transport URL",
         "vhost .* not found"),
    kind("the broker has too many connections", "raise the limit of the virtual host or of the user",
         "connection limit|connection per user limit"),
    kind("the user may not use the virtual host", "allow it with `rabbitmqctl set_permissions`",
         "access to vhost .* refused"),
    kind("the user lacks a right on the virtual host", "allow it with `rabbitmqctl set_permissions`",
         "ACCESS_REFUSED", detailed=True),
    kind("the server ends the connection before AMQP begins", "see its log, or correct the port",
         "IncompatibleProtocolError"),
    *NETWORK,
)  # fmt: skip


def reason_of(error: Any, where: str) -> str:
    """Why a connection ended, and what to do. `where`: the broker's URL without the password."""
    text = text_of(error)
    named = f"{type(error).__name__}: {text}"  # some errors say what they are by their type only
    return failures.sentence(failures.find(_KINDS, named), text, where)


def text_of(error: Any) -> str:
    """The first line of the innermost of pika's errors, which hold one another."""
    while inner := getattr(error, "exceptions", None):  # an attempt with several steps
        error = inner[-1]
    while isinstance(inner := getattr(error, "exception", None), BaseException):
        error = inner
    inner = next((each for each in getattr(error, "args", ()) if isinstance(each, BaseException)), None)
    if inner is not None:
        return text_of(inner)
    text = getattr(error, "reply_text", "") or str(error) or type(error).__name__
    return str(text).splitlines()[0]
