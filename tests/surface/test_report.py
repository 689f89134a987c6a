"""Every published route is served, at the first and the last of its versions, with a published answer."""

from __future__ import annotations

import pytest

from tests.surface.report import served, tried
from tests.surface.world import Row, World, rows

pytestmark = pytest.mark.wide


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.name)
def test_a_published_route_answers_as_published(world: World, row: Row) -> None:
    assert served(row)
    wrong = [found for version in row.versions if (found := tried(world, row, version)).wrong]
    assert not wrong
