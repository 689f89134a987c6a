"""What other services' refusals become, and that their internals stay out of it."""

from __future__ import annotations

import pytest

from cell_service import errors
from cell_service.errors import DatabaseUnavailable, Forbidden, PolycellError
from cell_service.peers.neutron import calls
from cell_service.peers.session import Reply


def test_a_policy_rule_of_the_network_service_is_for_the_operator(caplog: pytest.LogCaptureFixture) -> None:
    text = "((rule:create_port and rule:create_port:binding:profile)) is disallowed by policy"
    refusal = calls._refusal(Reply(403, {"NeutronError": {"type": "PolicyNotAuthorized", "message": text}}, {}))
    assert isinstance(refusal, Forbidden)
    assert str(refusal) == "The network service forbids the request."
    assert text in caplog.text


@pytest.mark.parametrize("name", ["DatabaseUnavailable", "QueueUnavailable", "HypervisorFailed"])
def test_errors_with_internals_have_a_sentence_for_users(name: str) -> None:
    error: PolycellError = getattr(errors, name)(reason="(2013, 'Lost connection')")
    assert "2013" in str(error)
    assert "2013" not in error.for_users()


def test_other_errors_are_for_users_as_they_are() -> None:
    assert Forbidden(reason="no").for_users() == "no"
    assert isinstance(errors.by_name("DatabaseUnavailable", {"reason": "x"}), DatabaseUnavailable)
