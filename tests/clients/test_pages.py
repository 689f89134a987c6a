"""The pages for people in Chromium, on a telephone and on a desk, by day and by night."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from tests.clients.browser import PROGRAM, Browser, Page
from tests.clients.screens import Shown, pages
from tests.edge.client import ADMIN

pytestmark = [
    pytest.mark.clients,
    pytest.mark.timeout(600),
    pytest.mark.skipif(PROGRAM is None, reason="Chromium is not installed: pages are not looked at"),
]
WIDER = """[...document.querySelectorAll("body *")].filter(each => {
    const box = each.getBoundingClientRect(); return box.width && box.right > innerWidth + 1
}).map(each => `${each.tagName} ${each.className}`)"""


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Shown]]:
    with pages(tmp_path_factory.mktemp("pages")) as made:
        yield {each.name: each for each in made}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as made:
        yield made


@pytest.fixture
def desk(shown: Mapping[str, Shown], browser: Browser) -> Iterator[Page]:
    """The page of the API."""
    page = shown["docs"].open(browser, 1280, dark=False)
    yield page
    assert page.problems == []
    page.close()


@pytest.mark.parametrize(
    ("name", "width", "dark"),
    [
        ("front", 390, False),
        ("front", 1280, True),
        ("docs", 390, True),
        ("create", 390, False),
        ("action", 390, True),
        ("create", 1280, True),
        ("terminal", 390, False),
        ("terminal", 1280, True),
        ("screen", 390, False),
        ("screen", 1280, True),
    ],
)
def test_a_page_fits_and_breaks_no_rule(
    shown: Mapping[str, Shown], browser: Browser, name: str, width: int, dark: bool
) -> None:
    page = shown[name].open(browser, width, dark)
    assert page.problems == []
    assert page.eval("document.documentElement.scrollWidth") <= width
    assert page.eval(WIDER) == []
    back = page.eval("getComputedStyle(document.documentElement).backgroundColor")
    if name not in ("terminal", "screen"):  # which are dark by day, too
        assert back == ("rgb(28, 32, 34)" if dark else "rgb(255, 255, 255)")
    page.close()


def test_the_filter_finds_operations_by_their_titles(desk: Page) -> None:
    desk.type(".operation-filter-input", "password of a server")
    desk.until("document.querySelectorAll('.opblock').length === 2")
    said = desk.eval("[...document.querySelectorAll('.opblock-summary-description')].map(each => each.innerText)")
    assert said == ["Show the password of a server", "Clear the password of a server"]


def test_another_microversion_is_another_document(desk: Page) -> None:
    desk.eval("{ const it = document.getElementById('microversion'); it.value = '2.1'; "
              "it.dispatchEvent(new Event('change')) }")  # fmt: skip
    desk.until("document.querySelector('.info .version').innerText.trim() === '2.1'")
    assert desk.eval("location.search") == "?microversion=2.1"


def test_a_request_is_sent_with_the_token_that_was_entered(shown: Mapping[str, Shown], browser: Browser) -> None:
    page = browser.open(shown["docs"].url + "#/Flavors/get-flavors")
    page.click(".btn.authorize")
    page.type(".auth-container input", ADMIN)
    page.click(".auth-btn-wrapper .authorize")
    page.click(".auth-btn-wrapper .btn-done")
    page.click("#operations-Flavors-get-flavors .try-out__btn")
    page.click("#operations-Flavors-get-flavors .execute")
    page.until("document.querySelector('.live-responses-table tbody .response-col_status').innerText.startsWith('200')")
    assert "X-Auth-Token" in page.eval("document.querySelector('.curl-command').innerText")
    assert page.problems == []
    page.close()
