"""Whatever fails, an operator reads one plain line; the driver's own words come with --debug."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import make_url

from cell_service.errors import CellUnavailable, Invalid, SchemaMissing
from tests.manage.conftest import Site
from tools.manage.failures import explained

RAW = re.compile(r"\(\d{4},|Errno|OperationalError|ProgrammingError|Traceback")
READING = (("cell_v2", "list_cells"), ("cell_v2", "list_hosts"), ("cell_v2", "check"), ("db", "version"))


@pytest.mark.real
@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_a_wrong_password_is_one_line_with_the_url(real_site: Site, words: tuple[str, ...]) -> None:
    url = make_url(real_site.url("api")).set(password="s3cr3t")
    real_site.configure(api_database__connection=url.render_as_string(hide_password=False))
    ran = real_site.run(*words)
    assert (ran.code, ran.out) == (255, "")
    (line,) = ran.err.splitlines()
    assert line.startswith("The database can't be used: the server refuses the user or the password (mysql+pymysql://")
    assert "s3cr3t" not in line
    assert not RAW.search(line)
    assert RAW.search(real_site.run(*words, "--debug").err)


@pytest.mark.real
def test_a_wrong_password_is_a_failed_check_with_the_url(real_site: Site) -> None:
    url = make_url(real_site.url("api")).set(password="s3cr3t")
    real_site.configure(api_database__connection=url.render_as_string(hide_password=False))
    printed = " ".join(real_site.status("upgrade", "check").out.replace("|", " ").split())
    assert "the server refuses the user or the password" in printed
    assert "s3cr3t" not in printed


def test_a_cell_s_line_says_why_and_what_to_do() -> None:
    lost = CellUnavailable(cell="c1", what="database", reason="the connection broke (URL); see the server's log")
    assert explained(lost) == "Cell c1 is not reachable: the connection broke (URL); see the server's log."
    assert explained(CellUnavailable(cell="c1")) == "Cell c1 is not reachable."


def test_a_missing_schema_says_what_to_run() -> None:
    missing = SchemaMissing(reason="table instances is missing (URL)", table="instances")
    lost = CellUnavailable(cell="c1", what="database", reason="x")
    lost.__cause__ = missing
    assert explained(missing).endswith("table instances is missing (URL). Run `polycell-manage db sync`.")
    assert explained(lost).startswith("Cell c1 is not reachable: The database has no schema yet")
    assert explained(lost).endswith("(URL). Run `polycell-manage db sync`.")


def test_other_errors_stay_as_they_are_on_one_line() -> None:
    assert explained(Invalid(reason="first\n  second")) == "first second"
