"""Times in the filters of lists: "at or before" compares what is shown."""

from __future__ import annotations

import pytest

from api_cell.timestamps import end_of_second, latest_meant, parse_timestamp


@pytest.mark.parametrize(
    ("written", "last"),
    [
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00.999999Z"),
        ("2026-01-31T12:00:00.000001Z", "2026-01-31T12:00:00.000001Z"),
    ],
)
def test_a_whole_second_means_all_of_it(written: str, last: str) -> None:
    assert latest_meant(parse_timestamp(written)) == parse_timestamp(last)


def test_what_is_shown_in_seconds_is_compared_in_seconds() -> None:
    assert end_of_second(parse_timestamp("2026-01-31T12:00:00.5Z")) == parse_timestamp("2026-01-31T12:00:00.999999Z")
