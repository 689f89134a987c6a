"""The table of microversions, and the tables that it bounds."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import api_cell
from api_cell.compute import behaviours
from api_cell.compute.behaviours import Behaviour
from api_cell.compute.fields import Field, bodies_of, fields_of, queries_of, value_at, values_at
from api_cell.compute.history import HISTORY, NEWEST, OLDEST
from api_cell.compute.routes import ROUTES
from api_cell.edge.route import Schema

API = Path(api_cell.__file__).parent


def test_every_version_has_a_sentence_and_none_is_left_out() -> None:
    assert list(HISTORY) == [(2, minor) for minor in range(OLDEST[1], NEWEST[1] + 1)]
    assert all(sentence.endswith(".") for sentence in HISTORY.values())


def test_routes_begin_and_end_with_versions_that_there_are() -> None:
    ends = {route.max_version for route in ROUTES} - {(2, 9999)}
    assert {route.min_version for route in ROUTES} | ends <= HISTORY.keys()


FIELDS = (Field("a", 1), Field("b", 2, since=(2, 5)), Field("c", 3, until=(2, 7)), Field("a", 4, since=(2, 9)))


TYPES: tuple[Field[Schema], ...] = (
    Field("a", {}, until=(2, 8)),
    Field("c", {}, until=(2, 7), required=True),
    Field("b", {}, since=(2, 5), required=True),
    Field("a", {"type": "null"}, since=(2, 9)),
)


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
    made = bodies_of(lambda fields: {"thing": fields}, *TYPES)
    assert [version for version, _ in made] == [(2, 1), (2, 5), (2, 8), (2, 9)]


def test_a_body_needs_the_fields_that_are_required_at_its_version() -> None:
    made = bodies_of(lambda fields: fields, *TYPES)
    required = [schema["required"] for _, schema in made if schema is not None]
    assert required == [["c"], ["c", "b"], ["b"], ["b"]]


def test_a_query_is_closed_from_its_version_on() -> None:
    made = queries_of(Field("a", {}), closed=(2, 75))
    assert [(version, (schema or {})["additionalProperties"]) for version, schema in made] == [
        ((2, 1), True),
        ((2, 75), False),
    ]


def test_a_schema_that_changes_is_a_field_for_each_of_its_forms() -> None:
    schemas = (((2, 1), {"type": "string"}), ((2, 37), {"type": "null"}))
    assert fields_of("a", schemas) == (
        Field("a", {"type": "string"}, until=(2, 36)),
        Field("a", {"type": "null"}, since=(2, 37)),
    )


@pytest.mark.parametrize(("version", "expected"), [((2, 1), "a"), ((2, 44), "a"), ((2, 45), "b"), (NEWEST, "b")])
def test_the_last_row_that_has_begun_applies(version: tuple[int, int], expected: str) -> None:
    assert value_at((((2, 1), "a"), ((2, 45), "b")), version) == expected


READ = [path for part in ("compute", "servers") for path in sorted((API / part).rglob("*.py"))]
TABLES = {API / "compute" / name for name in ("behaviours.py", "fields.py", "documents.py", "openapi.py")}


@pytest.mark.parametrize("path", [path for path in READ if path not in TABLES], ids=lambda path: str(path.name))
def test_only_tables_compare_versions(path: Path) -> None:
    tree = list(ast.walk(ast.parse(path.read_text())))
    compared = [part for node in tree if isinstance(node, ast.Compare) for part in (node.left, *node.comparators)]
    assert [part.lineno for part in compared if ast.unparse(part) in ("version", "req.version")] == []
    assert [node.lineno for node in tree if isinstance(node, ast.Attribute) and node.attr == "at_least"] == []


BEHAVIOURS = {name: value for name, value in vars(behaviours).items() if isinstance(value, Behaviour)}


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_a_behaviour_begins_with_a_version_that_there_is(name: str) -> None:
    behaviour = BEHAVIOURS[name]
    assert behaviour.since in HISTORY.keys() - {OLDEST}
    assert not behaviour.at((2, behaviour.since[1] - 1))
    assert behaviour.at(behaviour.since)
    assert behaviour.rule.endswith(".")
