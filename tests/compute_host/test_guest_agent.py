"""Guest agents that answer, are silent, lie or are not there: a fault in time, and no guest that stays frozen. The
domains are stood in for; tests/lab has real ones."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

pytest.importorskip("libvirt", reason="needs libvirt-python")

import libvirt

from cell_service.context import ManualClock
from cell_service.errors import DriverError, GuestNotFound
from cell_service.model.guest_agent import Quiesce
from compute_host.config import HostSettings
from compute_host.virt.libvirt import guest_agent
from compute_host.virt.libvirt.connection import named
from compute_host.virt.libvirt.freezing import LONGEST_PAUSE_SECONDS, MARK, Freezing
from compute_host.virt.libvirt.guest_agent import GuestAgentAbsent, GuestAgentFailed
from compute_host.virt.libvirt.storage import Storage
from tests.real.databases import wait_until

PASSWORD = "Gr8-Secret"
CHANNEL = "<channel type='unix'><target type='virtio' name='{}' state='{}'/></channel>"
RUNNING, PAUSED, OFF = libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_SHUTOFF
UNRESPONSIVE, INTERNAL = libvirt.VIR_ERR_AGENT_UNRESPONSIVE, libvirt.VIR_ERR_INTERNAL_ERROR


def failure(code: int, words: str = "words of the guest") -> libvirt.libvirtError:
    error = libvirt.libvirtError(words)
    error.err = (code, 0, words, 0, "", None, None, 0, 0)
    return error


class Domain:
    """A domain whose agent answers to each command in `wrong` with that error."""

    def __init__(self) -> None:
        self.uuid, self.state_now, self.channel, self.saved = str(uuid4()), RUNNING, "connected", False
        self.wrong: dict[str, libvirt.libvirtError] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.seconds = -2
        self.before: Callable[[str], None] = lambda _command: None

    def UUIDString(self) -> str:
        return self.uuid

    def state(self) -> list[int]:
        return [self.state_now, 0]

    def isActive(self) -> bool:
        return self.state_now != OFF

    def hasManagedSaveImage(self) -> bool:
        return self.saved

    def XMLDesc(self, _flags: int) -> str:
        other = CHANNEL.format("com.redhat.spice.0", "disconnected")
        own = CHANNEL.format(guest_agent.CHANNEL, self.channel) if self.channel else ""
        return f"<domain><devices>{other}{own}</devices></domain>"

    def agentSetResponseTimeout(self, seconds: int, _flags: int) -> None:
        self.seconds = seconds

    def setUserPassword(self, user: str, password: str, _flags: int) -> None:
        self._command("password", user, password)

    def getTime(self, _flags: int) -> None:
        self._command("ping")

    def fsFreeze(self, _mountpoints: None, _flags: int) -> int:
        self._command("freeze")
        return 1

    def fsThaw(self, _mountpoints: None, _flags: int) -> int:
        self._command("thaw")
        return 1

    def _command(self, name: str, *arguments: str) -> None:
        assert self.seconds > 0, "libvirt would wait for ever"
        self.before(name)
        self.calls.append((name, *arguments))
        if name in self.wrong:
            raise self.wrong[name]

    @property
    def commands(self) -> list[str]:
        return [call[0] for call in self.calls]


class Host:
    """A host with one guest."""

    def __init__(self, directory: Path) -> None:
        self.domain, self.clock = Domain(), ManualClock()
        self.storage = Storage(HostSettings(host="h1", state=directory, image_cache=directory / "images"))
        self.mark = self.storage.path(self.domain.uuid) / MARK
        self.mark.parent.mkdir(parents=True)
        self.gone = False
        self.made: list[Freezing] = []

    @contextmanager
    def guest(self, uuid: str) -> Iterator[Any]:
        if self.gone:
            raise GuestNotFound(uuid=uuid)
        try:
            yield self.domain
        except libvirt.libvirtError as error:
            raise named(error, uuid) from error

    def freezing(self) -> Freezing:
        made = Freezing(self.storage, self.guest, self.clock)
        self.made.append(made)
        made.start()
        return made

    def frozen(self, quiesce: Quiesce = Quiesce.REQUIRED) -> Any:
        return (self.made[-1] if self.made else self.freezing()).frozen(self.domain.uuid, quiesce)

    def is_awaited(self) -> bool:
        """Whether a second thread wants to thaw the guest."""
        self.clock.advance(LONGEST_PAUSE_SECONDS)
        gates = self.made[-1].gates
        return gates.users(self.domain.uuid) > 1

    def until_thawed(self) -> None:
        def thawed() -> bool:
            self.clock.advance(LONGEST_PAUSE_SECONDS)
            return not self.mark.exists()

        wait_until(thawed, "the guest stays frozen")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path / "guests")
    yield made
    for each in made.made:
        each.stop()


@pytest.fixture
def domain(host: Host) -> Domain:
    return host.domain


# -- passwords ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("properties", "user"),
    [
        ({}, "root"),
        ({"os_type": "linux"}, "root"),
        ({"os_type": "windows"}, "Administrator"),
        ({"os_type": "Windows"}, "Administrator"),
        ({"os_admin_user": "debian"}, "debian"),
        ({"os_admin_user": "chef", "os_type": "windows"}, "chef"),
        ({"os_admin_user": ""}, "root"),
    ],
)
def test_the_administrator_is_that_of_the_image(properties: dict[str, str], user: str) -> None:
    assert guest_agent.administrator(properties) == user


def test_the_agent_sets_the_password_and_has_a_time_for_it(domain: Domain) -> None:
    guest_agent.set_password(domain, "root", PASSWORD)
    assert domain.calls == [("password", "root", PASSWORD)]
    assert domain.seconds == guest_agent.PASSWORD_SECONDS


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (UNRESPONSIVE, "did not answer in time"),
        (libvirt.VIR_ERR_AGENT_UNSYNCED, "did not answer in time"),
        (libvirt.VIR_ERR_OPERATION_TIMEOUT, "did not answer in time"),
        (INTERNAL, "could not set the password"),
        (libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED, "could not set the password"),
    ],
)
def test_an_agent_that_fails_is_a_fault_without_the_guests_words(
    domain: Domain, caplog: pytest.LogCaptureFixture, code: int, words: str
) -> None:
    domain.wrong["password"] = failure(code, f"I can't set {PASSWORD}, <script>")
    with caplog.at_level(logging.DEBUG), pytest.raises(GuestAgentFailed) as raised:
        guest_agent.set_password(domain, "root", PASSWORD)
    assert str(raised.value) == f"The guest agent {words}."
    assert (raised.value.__cause__, raised.value.__context__) == (None, None)
    assert PASSWORD not in caplog.text
    assert not any(PASSWORD in str(record.__dict__) for record in caplog.records)


@pytest.mark.parametrize("odd", ["a\0b", "a\ud800"])
def test_a_password_that_cannot_be_passed_on_is_a_fault(domain: Domain, odd: str) -> None:
    """libvirt's own test driver says how such a password fails on its way."""
    connection = libvirt.open("test:///default")
    real = connection.listAllDomains()[0]
    domain.before = lambda _command: real.setUserPassword("root", odd, 0)
    with pytest.raises(GuestAgentFailed, match="could not set the password: there are characters"):
        guest_agent.set_password(domain, "root", odd)
    connection.close()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"channel": ""}, "has no channel to the guest"),
        ({"channel": "disconnected"}, "does not run in the guest"),
        ({"state_now": PAUSED}, "the guest is paused"),
        ({"state_now": OFF}, "the guest is shutdown"),
    ],
)
def test_an_agent_that_cannot_answer_is_not_called(domain: Domain, change: dict[str, Any], words: str) -> None:
    vars(domain).update(change)
    for call in (guest_agent.ping, guest_agent.freeze, lambda found: guest_agent.set_password(found, "root", "x")):
        with pytest.raises(GuestAgentAbsent, match=words):
            call(domain)
    assert domain.calls == []


# -- file systems ------------------------------------------------------------------------------------


def test_file_systems_are_frozen_meanwhile_and_thawed_afterwards(host: Host, domain: Domain) -> None:
    with host.frozen():
        assert domain.commands == ["freeze"]
        assert host.mark.exists()
    assert domain.commands == ["freeze", "thaw"]
    assert not host.mark.exists()


def test_they_are_thawed_after_an_error(host: Host, domain: Domain) -> None:
    with pytest.raises(DriverError, match="no room"), host.frozen():
        raise DriverError(reason="no room")
    assert domain.commands == ["freeze", "thaw"]
    assert not host.mark.exists()


@pytest.mark.parametrize("quiesce", [Quiesce.IF_POSSIBLE, Quiesce.REQUIRED])
def test_a_freeze_that_may_still_come_is_thawed(host: Host, domain: Domain, quiesce: Quiesce) -> None:
    domain.wrong["freeze"] = failure(UNRESPONSIVE)
    copied = []
    try:
        with host.frozen(quiesce):
            copied.append(True)
    except GuestAgentFailed:
        assert quiesce is Quiesce.REQUIRED
    assert copied == ([True] if quiesce is Quiesce.IF_POSSIBLE else [])
    assert domain.commands == ["freeze", "thaw"]
    assert not host.mark.exists()


@pytest.mark.parametrize("change", [{"channel": ""}, {"channel": "disconnected"}, {"state_now": PAUSED}])
def test_an_agent_that_was_not_called_has_nothing_to_thaw(host: Host, domain: Domain, change: dict[str, Any]) -> None:
    vars(domain).update(change)
    with host.frozen(Quiesce.IF_POSSIBLE):
        pass
    with pytest.raises(GuestAgentAbsent), host.frozen(Quiesce.REQUIRED):
        pass
    assert domain.commands == []
    assert not host.mark.exists()


def test_without_quiescing_no_agent_is_called(host: Host, domain: Domain) -> None:
    with host.frozen(Quiesce.NO):
        assert not host.mark.exists()
    assert domain.commands == []


def test_an_agent_that_is_silent_while_frozen_is_thawed_when_it_answers(host: Host, domain: Domain) -> None:
    with host.frozen():
        domain.wrong["thaw"] = failure(UNRESPONSIVE)
    assert host.mark.exists()
    domain.wrong.clear()
    host.until_thawed()
    assert domain.commands[-1] == "thaw"
    with host.frozen():
        pass
    assert not host.mark.exists()


def test_an_agent_that_was_killed_while_frozen_is_thawed_when_it_is_back(host: Host, domain: Domain) -> None:
    with host.frozen():
        domain.channel = "disconnected"
    assert domain.commands == ["freeze"]
    assert host.made[-1].left() == (domain.uuid,)
    with host.frozen(Quiesce.IF_POSSIBLE):
        pass
    assert host.mark.exists(), "an agent that is not there has thawed nothing"
    domain.channel = "connected"
    host.until_thawed()
    assert domain.commands == ["freeze", "thaw"]


def test_a_guest_that_a_killed_process_has_left_frozen_is_thawed_by_the_next(host: Host, domain: Domain) -> None:
    host.mark.touch()
    domain.wrong["thaw"] = failure(INTERNAL)
    host.freezing()
    wait_until(lambda: "thaw" in domain.commands, "no thaw is tried")
    domain.wrong.clear()
    host.until_thawed()
    assert set(domain.commands) == {"thaw"}


@pytest.mark.parametrize("end", ["off", "gone"])
def test_the_end_of_a_guest_ends_its_thaw(host: Host, domain: Domain, end: str) -> None:
    with host.frozen():
        domain.wrong["thaw"] = failure(UNRESPONSIVE)
    if end == "off":
        domain.state_now = OFF
    else:
        host.gone = True
    host.until_thawed()
    assert host.made[-1].left() == ()


def test_a_guest_that_is_suspended_while_frozen_is_thawed_when_it_goes_on(host: Host, domain: Domain) -> None:
    with host.frozen():
        domain.state_now, domain.saved = OFF, True
    assert host.mark.exists()
    domain.state_now, domain.saved = RUNNING, False
    host.until_thawed()
    assert domain.commands == ["freeze", "thaw"]


def test_a_late_thaw_does_not_thaw_the_next_copy(host: Host, domain: Domain) -> None:
    with host.frozen():
        domain.wrong["thaw"] = failure(UNRESPONSIVE)
    with host.frozen():
        wait_until(host.is_awaited, "no thaw waits for the copy")
        domain.wrong.clear()
        before = list(domain.commands)
        host.clock.advance(LONGEST_PAUSE_SECONDS)
        assert domain.commands == before
    host.until_thawed()


def test_a_domain_that_goes_away_in_the_middle_is_no_fault_of_its_agent(host: Host, domain: Domain) -> None:
    domain.wrong["freeze"] = domain.wrong["thaw"] = failure(libvirt.VIR_ERR_NO_DOMAIN)
    with pytest.raises(GuestNotFound), host.frozen(Quiesce.IF_POSSIBLE):
        pass
    assert not host.mark.exists()
