"""The guest agent of a domain (qemu-ga), through libvirt. Whatever runs in the guest answers here, or does not: each
call ends within a time-out, and none of the guest's own words leave this module."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Any, TypeVar
from xml.etree import ElementTree

import libvirt

from cell_service.errors import DriverError
from cell_service.logs import about
from cell_service.model.lifecycle import PowerState
from compute_host.virt.libvirt import states

log = logging.getLogger(__name__)
T = TypeVar("T")

CHANNEL = "org.qemu.guest_agent.0"
PASSWORD_SECONDS, FREEZE_SECONDS, THAW_SECONDS, PING_SECONDS = 30, 60, 30, 5
"""The time that the agent has for its answer. libvirt waits at most 5 s more, for the agent to begin."""
ADMINISTRATORS = {"windows": "Administrator"}
DEFAULT_ADMINISTRATOR = "root"
_UNANSWERED = (libvirt.VIR_ERR_AGENT_UNRESPONSIVE, libvirt.VIR_ERR_AGENT_UNSYNCED, libvirt.VIR_ERR_OPERATION_TIMEOUT)
_GONE = (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID)


class GuestAgentFailed(DriverError):
    message = "The guest agent {reason}."


class GuestAgentAbsent(GuestAgentFailed):
    """Nothing was sent to an agent: the guest can't have done anything."""


def administrator(properties: dict[str, str]) -> str:
    """The guest's administrator, by the properties of its image (os_admin_user, os_type)."""
    named = properties.get("os_admin_user")
    return named or ADMINISTRATORS.get(properties.get("os_type", "").lower(), DEFAULT_ADMINISTRATOR)


def set_password(found: Any, user: str, password: str) -> None:
    """Raises GuestAgentFailed; libvirtError for a domain that is gone."""
    _answer(found, "set the password", PASSWORD_SECONDS, lambda: found.setUserPassword(user, password, 0))


def ping(found: Any) -> None:
    """Raises GuestAgentFailed when the agent does not answer; libvirtError for a domain that is gone."""
    _answer(found, "answer", PING_SECONDS, lambda: found.getTime(0))


def freeze(found: Any) -> None:
    """Freeze the guest's file systems. Raises GuestAgentFailed, after which they may be frozen, or may become so later,
    but for GuestAgentAbsent; libvirtError for a domain that is gone."""
    _answer(found, "freeze the file systems", FREEZE_SECONDS, lambda: found.fsFreeze(None, 0))


def thaw(found: Any) -> None:
    """Thaw the guest's file systems. Raises GuestAgentFailed; libvirtError for a domain that is gone."""
    _answer(found, "thaw the file systems", THAW_SECONDS, lambda: found.fsThaw(None, 0))


def shut_down_or_press_button(found: Any) -> None:
    """Have the agent shut the guest down, or press the guest's power button if it has no agent that answers. Raises
    libvirtError."""
    with contextlib.suppress(libvirt.libvirtError):
        found.agentSetResponseTimeout(PING_SECONDS, 0)
    found.shutdown()


def _answer(found: Any, what: str, seconds: int, call: Callable[[], T]) -> T:
    _demand_connected(found)
    try:
        found.agentSetResponseTimeout(seconds, 0)
        return call()
    except ValueError:  # NUL, or half of a surrogate pair
        reason = f"could not {what}: there are characters in it that cannot be passed on"
    except libvirt.libvirtError as error:
        code = error.get_error_code()
        if code in _GONE:
            raise
        log.warning("guest agent failed", extra=about(None, instance=found.UUIDString(), to=what, code=code))
        late = code in _UNANSWERED
        reason = "did not answer in time" if late else f"could not {what}"
    raise GuestAgentFailed(reason=reason)  # without the error: it has the guest's words, which may be the password


def _demand_connected(found: Any) -> None:
    """Raises GuestAgentAbsent."""
    state = states.of(found)
    if state is not PowerState.RUNNING:
        raise GuestAgentAbsent(reason=f"cannot answer: the guest is {state.name.lower()}")
    for target in ElementTree.fromstring(found.XMLDesc(0)).iterfind("devices/channel/target"):
        if target.get("name") == CHANNEL:
            if target.get("state") == "disconnected":
                raise GuestAgentAbsent(reason="does not run in the guest")
            return
    raise GuestAgentAbsent(reason="has no channel to the guest: a hard reboot adds it")
