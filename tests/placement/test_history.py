"""The table of the Placement API's microversions, which bounds its routes and behaviours."""

from __future__ import annotations

import pytest

from api_cell.edge.versioned import BEGINNING, END, Behaviour, Field
from api_cell.placement import behaviours, query
from api_cell.placement.history import HISTORY, NEWEST, OLDEST
from api_cell.placement.routes import ROUTES


def test_every_version_has_a_sentence_and_none_is_left_out() -> None:
    assert list(HISTORY) == [(1, minor) for minor in range(OLDEST[1], NEWEST[1] + 1)]
    assert all(sentence.endswith(".") for sentence in HISTORY.values())


def test_routes_begin_and_end_with_versions_that_there_are() -> None:
    assert {version for route in ROUTES for version in (route.min_version, route.max_version)} <= HISTORY.keys()


def test_bodies_change_at_versions_that_there_are() -> None:
    found = {since for route in ROUTES if isinstance(route.body, tuple) for since, _ in route.body}
    assert found - {BEGINNING} <= HISTORY.keys()


@pytest.mark.parametrize("parameters", [query.PROVIDER_LIST, query.CANDIDATES, query.OF_GROUPS])
def test_parameters_of_queries_begin_and_end_with_versions_that_there_are(parameters: tuple[Field[bool], ...]) -> None:
    ends = {version for field in parameters for version in (field.since, field.until)}
    assert ends - {BEGINNING, END} <= HISTORY.keys()


BEHAVIOURS = {name: value for name, value in vars(behaviours).items() if isinstance(value, Behaviour)}


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_a_behaviour_begins_with_a_version_that_there_is(name: str) -> None:
    behaviour = BEHAVIOURS[name]
    assert behaviour.since in HISTORY.keys() - {OLDEST}
    assert not behaviour.at((1, behaviour.since[1] - 1))
    assert behaviour.at(behaviour.since)
    assert behaviour.rule.endswith(".")
