"""Documents name files that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
NAMED = re.compile(r"`((?:api_cell|cell_service|compute_host|mapping_db|tools|tests|bench|docs)/[\w./-]*)`")


def missing(page: Path) -> list[str]:
    """The paths that the page names, and that are not there."""
    return sorted({path for path in NAMED.findall(page.read_text("utf-8")) if not (ROOT / path).exists()})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    assert missing(page) == []


def test_a_file_that_has_gone_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("See `tools/there_is_none.py` and `tools/manage/`.", "utf-8")
    assert missing(page) == ["tools/there_is_none.py"]


LONG = [page for page in PAGES if page.parent.name == "docs" and page.read_text("utf-8").count("\n## ") > 3]
SECTION = re.compile(r"^##+ (.+)$", re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")


def anchors(page: Path) -> set[str]:
    """The names by which links reach a page's sections, as code hosts make them."""
    return {
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in SECTION.findall(page.read_text("utf-8"))
    }


def broken(page: Path) -> list[str]:
    """The links of a page that lead to no file, or to no section of it."""
    found = []
    for path, section in LINK.findall(page.read_text("utf-8")):
        target = page.parent / path if path else page
        if not target.exists() or (section and section not in anchors(target)):
            found.append(f"{path}#{section}")
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    assert broken(page) == []


@pytest.mark.parametrize("page", LONG, ids=lambda page: page.name)
def test_a_page_with_many_sections_lists_them_at_its_top(page: Path) -> None:
    text = page.read_text("utf-8")
    top = text.partition("\n## ")[0]
    listed = {section for path, section in LINK.findall(top) if not path}
    top_sections = {
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^## (.+)$", text, re.MULTILINE)
    }
    assert top_sections - listed == set()


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n[a](#there), [b](#not-there), [c](gone.md)\n\n## There\n", "utf-8")
    assert broken(page) == ["#not-there", "gone.md#"]
