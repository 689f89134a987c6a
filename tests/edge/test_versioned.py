"""Tables of what changes with the version, and that versions are compared in no other place."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import api_cell
from api_cell.edge.route import Schema
from api_cell.edge.versioned import BEGINNING, END, Field, bodies_of, fields_of, queries_of, value_at, values_at

API = Path(api_cell.__file__).parent

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
    assert [version for version, _ in made] == [BEGINNING, (2, 5), (2, 8), (2, 9)]


def test_a_route_that_came_later_has_no_schemas_of_versions_before() -> None:
    made = bodies_of(lambda fields: fields, *TYPES, since=(2, 6))
    assert [version for version, _ in made] == [(2, 6), (2, 8), (2, 9)]
    assert made[1:] == bodies_of(lambda fields: fields, *TYPES)[2:]


def test_a_body_needs_the_fields_that_are_required_at_its_version() -> None:
    made = bodies_of(lambda fields: fields, *TYPES)
    required = [schema["required"] for _, schema in made if schema is not None]
    assert required == [["c"], ["c", "b"], ["b"], ["b"]]


def test_a_query_is_closed_from_its_version_on() -> None:
    made = queries_of(Field("a", {}), closed=(2, 75))
    assert [(version, (schema or {})["additionalProperties"]) for version, schema in made] == [
        (BEGINNING, True),
        ((2, 75), False),
    ]


def test_a_schema_that_changes_is_a_field_for_each_of_its_forms() -> None:
    schemas = (((2, 1), {"type": "string"}), ((2, 37), {"type": "null"}))
    assert fields_of("a", schemas) == (
        Field("a", {"type": "string"}, since=(2, 1), until=(2, 36)),
        Field("a", {"type": "null"}, since=(2, 37)),
    )


@pytest.mark.parametrize(("version", "expected"), [((2, 1), "a"), ((2, 44), "a"), ((2, 45), "b"), (END, "b")])
def test_the_last_row_that_has_begun_applies(version: tuple[int, int], expected: str) -> None:
    assert value_at((((2, 1), "a"), ((2, 45), "b")), version) == expected


READ = [path for part in ("compute", "servers", "placement") for path in sorted((API / part).rglob("*.py"))]
TABLES = {API / "compute" / name for name in ("documents.py", "openapi.py")}


def comparisons(source: str) -> list[int]:
    """The lines that compare a request's version, or a part of it."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare):
            parts = [part.value if isinstance(part, ast.Subscript) else part for part in (node.left, *node.comparators)]
            if any(ast.unparse(part) in ("version", "req.version", "fault.version") for part in parts):
                found.append(node.lineno)
    return found


@pytest.mark.parametrize(
    "path", [path for path in READ if path not in TABLES], ids=lambda path: str(path.relative_to(API))
)
def test_only_tables_compare_versions(path: Path) -> None:
    assert comparisons(path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    "source", ["version >= (1, 5)", "(1, 5) <= req.version", "req.version[1] < 5", "(1, 2) < fault.version < (1, 5)"]
)
def test_a_comparison_of_a_version_is_found(source: str) -> None:
    assert comparisons(source) == [1]
