"""Which Accept headers admit JSON, and the page for clients that take none."""

from __future__ import annotations

import pytest

from api_cell.edge.media import accepts_json, fault_page


@pytest.mark.parametrize(
    "header",
    [
        "",
        "application/json",
        "*/*",
        "text/html, */*;q=0.1",
        "application/*",
        "text/plain;q=0.9, Application/JSON;q=0.1",
    ],
)
def test_json_is_accepted(header: str) -> None:
    assert accepts_json(header)


@pytest.mark.parametrize(
    "header",
    ["text/plain", "text/html,application/xhtml+xml,application/xml;q=0.9", "application/json;q=0, */*", "*/*;q=x"],
)
def test_json_is_not_accepted(header: str) -> None:
    assert not accepts_json(header)


def test_what_a_page_says_is_text() -> None:
    assert b"<h1>404 Not Found</h1>no &lt;b&gt;" in fault_page(404, "Not Found", "no <b>")
