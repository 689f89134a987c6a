"""The table of microversions, and the tables that it bounds."""

from __future__ import annotations

import pytest

from api_cell.compute.fields import Field, schemas_of, values_at
from api_cell.compute.history import HISTORY, NEWEST, OLDEST
from api_cell.compute.routes import ROUTES


def test_every_version_has_a_sentence_and_none_is_left_out() -> None:
    assert list(HISTORY) == [(2, minor) for minor in range(OLDEST[1], NEWEST[1] + 1)]
    assert all(sentence.endswith(".") for sentence in HISTORY.values())


def test_routes_begin_and_end_with_versions_that_there_are() -> None:
    ends = {route.max_version for route in ROUTES} - {(2, 9999)}
    assert {route.min_version for route in ROUTES} | ends <= HISTORY.keys()


FIELDS = (Field("a", 1), Field("b", 2, since=(2, 5)), Field("c", 3, until=(2, 7)), Field("a", 4, since=(2, 9)))


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ((2, 1), {"a": 1, "c": 3}),
        ((2, 5), {"a": 1, "b": 2, "c": 3}),
        ((2, 7), {"a": 1, "b": 2, "c": 3}),
        ((2, 8), {"a": 1, "b": 2}),
        ((2, 9), {"a": 4, "b": 2}),
    ],
)
def test_a_version_has_its_fields(version: tuple[int, int], expected: dict[str, int]) -> None:
    assert values_at(FIELDS, version) == expected


def test_schemas_change_where_fields_begin_or_end() -> None:
    made = schemas_of(lambda fields: {"properties": fields}, *FIELDS)
    assert [version for version, _ in made] == [(2, 1), (2, 5), (2, 8), (2, 9)]
