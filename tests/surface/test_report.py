"""Every published route is served, at the first and the last of its versions, with a published answer."""

from __future__ import annotations

import pytest

from tests.surface.report import NOT_YET, served, tried
from tests.surface.world import Row, World, rows

pytestmark = pytest.mark.wide


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.name)
def test_a_published_route_answers_as_published(world: World, row: Row) -> None:
    if row.name in NOT_YET:
        pytest.skip("not served yet")
    assert served(row)
    wrong = [found for version in row.versions if (found := tried(world, row, version)).wrong]
    assert not wrong


def test_what_is_not_served_yet_is_published() -> None:
    assert not rows() or {row.name for row in rows()} >= NOT_YET
