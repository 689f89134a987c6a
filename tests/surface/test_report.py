"""Every published route is granted at the first and the last of its versions, and there is nothing beyond them."""

from __future__ import annotations

import pytest

from tests.surface.report import REFUSED, beyond, served, tried
from tests.surface.world import Row, World, rows

pytestmark = pytest.mark.wide


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.name)
def test_a_published_route_answers_as_published(world: World, row: Row) -> None:
    assert served(row)
    wrong = [found for version in row.versions if (found := tried(world, row, version)).wrong]
    assert not wrong


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.name)
def test_there_is_nothing_outside_its_versions(world: World, row: Row) -> None:
    assert not beyond(world, row)


def test_what_can_only_be_refused_is_published() -> None:
    assert not rows() or {row.name for row in rows()} >= set(REFUSED)
