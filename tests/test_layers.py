"""The import arrows: tools → api_cell → mapping_db → cell_service ← compute_host."""

from __future__ import annotations

import ast
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "cell_service": {"cell_service"},
    "compute_host": {"compute_host", "cell_service"},
    "mapping_db": {"mapping_db", "cell_service"},
    "api_cell": {"api_cell", "mapping_db", "cell_service"},
    "tools": {"tools", "api_cell", "mapping_db", "cell_service", "compute_host"},
}
FILES = [path for package in MAY_IMPORT for path in sorted((ROOT / package).rglob("*.py"))]


@cache
def imports_of(path: Path) -> frozenset[str]:
    """Every module a file imports, wherever in it the import stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(found)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_arrows(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    ours = {name for name in imports_of(path) if name.split(".")[0] in MAY_IMPORT}
    assert {name for name in ours if name.split(".")[0] not in MAY_IMPORT[package]} == set()


TANGLED: set[tuple[str, str]] = set()
"""Folders beside each other that still import each other."""


def folder_imports() -> dict[str, set[str]]:
    """Each folder of a package → the folders beside it that it imports."""
    folders = {path.parent.relative_to(ROOT) for path in FILES}
    found: dict[str, set[str]] = defaultdict(set)
    for path in FILES:
        here = path.relative_to(ROOT).parent
        for name in imports_of(path):
            parts = name.split(".")
            for depth in range(1, len(here.parts)):
                beside = Path(*parts[: depth + 1])
                if parts[:depth] != list(here.parts[:depth]) or beside not in folders:
                    break
                if beside.parts[depth] != here.parts[depth]:
                    found[Path(*here.parts[: depth + 1]).as_posix()].add(beside.as_posix())
                    break
    return found


def test_no_two_folders_beside_each_other_import_each_other() -> None:
    found = folder_imports()
    both = {(one, other) for one, those in found.items() for other in those if one in found.get(other, set())}
    assert {tuple(sorted(pair)) for pair in both} == TANGLED


@pytest.mark.parametrize("path", sorted((ROOT / "compute_host").rglob("*.py")), ids=lambda path: path.stem)
def test_a_host_never_sees_a_database(path: Path) -> None:
    barred = ("cell_service.db", "sqlalchemy")
    assert {name for name in imports_of(path) if name.startswith(barred)} == set()


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if "virt/libvirt" not in str(path)],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_libvirt_is_imported_only_by_its_driver(path: Path) -> None:
    assert not any(name.split(".")[0] == "libvirt" for name in imports_of(path))


DOMAIN = [
    path for section in ("servers", "hosts", "lists") for path in sorted((ROOT / "api_cell" / section).rglob("*.py"))
] + [ROOT / "api_cell" / name for name in ("cell_queries.py", "quota_check.py", "caller.py", "services.py")]


@pytest.mark.parametrize("path", DOMAIN, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_domain_knows_no_web(path: Path) -> None:
    barred = ("api_cell.edge", "api_cell.compute", "tornado")
    assert {name for name in imports_of(path) if name.startswith(barred)} == set()
