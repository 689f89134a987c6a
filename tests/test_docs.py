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
