"""The lists of known failures can be read, and each failure has a reason."""

from __future__ import annotations

import pytest

from tests.public.run import KNOWN, known_failures
from tests.public.suites import SUITES


@pytest.mark.parametrize("suite", SUITES)
def test_each_known_failure_is_a_test_with_a_reason(suite: str) -> None:
    for test, reason in known_failures(suite).items():
        assert test.count(".") > 2, test
        assert len(reason.split()) > 2, test


def test_each_list_is_of_a_suite() -> None:
    assert {path.stem for path in KNOWN.glob("*.txt")} <= set(SUITES)
