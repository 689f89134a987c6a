"""The tested set of packages agrees with the ranges of setup.py."""

from __future__ import annotations

from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

TESTED = {
    canonicalize_name(name): version
    for name, version in (
        line.split("==") for line in (Path(__file__).parents[1] / "constraints.txt").read_text("utf-8").splitlines()
    )
}


def test_the_installation_says_what_it_requires() -> None:
    assert len(requires("polycell") or []) > 20


@pytest.mark.parametrize("line", requires("polycell") or [])
def test_every_package_that_we_name_has_a_tested_version_in_its_range(line: str) -> None:
    wanted = Requirement(line)
    assert TESTED[canonicalize_name(wanted.name)] in wanted.specifier
