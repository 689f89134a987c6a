"""The table of the Compute API's microversions, which bounds its routes and behaviours."""

from __future__ import annotations

import pytest

from api_cell.compute import behaviours
from api_cell.compute.history import HISTORY, NEWEST, OLDEST
from api_cell.compute.routes import ROUTES
from api_cell.edge.versioned import Behaviour


def test_every_version_has_a_sentence_and_none_is_left_out() -> None:
    assert list(HISTORY) == [(2, minor) for minor in range(OLDEST[1], NEWEST[1] + 1)]
    assert all(sentence.endswith(".") for sentence in HISTORY.values())


def test_routes_begin_and_end_with_versions_that_there_are() -> None:
    ends = {route.max_version for route in ROUTES} - {(2, 9999)}
    assert {route.min_version for route in ROUTES} | ends <= HISTORY.keys()


BEHAVIOURS = {name: value for name, value in vars(behaviours).items() if isinstance(value, Behaviour)}


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_a_behaviour_begins_with_a_version_that_there_is(name: str) -> None:
    behaviour = BEHAVIOURS[name]
    assert behaviour.since in HISTORY.keys() - {OLDEST}
    assert not behaviour.at((2, behaviour.since[1] - 1))
    assert behaviour.at(behaviour.since)
    assert behaviour.rule.endswith(".")
