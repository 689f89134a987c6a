"""A second `polycell up` goes on with the cloud that is there, in its shape."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cell_service.errors import Invalid
from tests.suites.certificates import certificate
from tools.up import shape
from tools.up.drivers import Choice
from tools.up.plan import Options, plan_of

LINE: dict[str, Any] = {
    "port_base": 20100, "cells": 3, "hosts_per_cell": 1, "driver": "simulated", "uplink": False, "processes": True,
    "database": ["mysql://u:p@h/{cell}", "cell1=mysql://u:p@other/nova"], "transport": ["rabbit://u:p@h/{cell}"],
    "cache": "memcached://h:11211", "auth": "noauth2", "workers": 2,
}  # fmt: skip
"""A command line that says everything."""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The directory of a cloud that such a line made."""
    (tmp_path / "etc").mkdir()
    shape.remember(plan_of(shape.options(tmp_path, LINE)))
    return tmp_path


def test_what_the_line_does_not_say_is_as_it_was(state: Path) -> None:
    assert shape.options(state, {}) == shape.options(state, LINE)
    assert (state / "etc" / "options.json").stat().st_mode & 0o077 == 0  # URLs have passwords


def test_what_the_line_says_wins(state: Path) -> None:
    given = shape.options(state, {"cells": 4, "uplink": True, "driver": None})
    assert given == replace(shape.options(state, LINE), cells=4, uplink=True)


def test_workers_end_with_the_processes(state: Path) -> None:
    given = shape.options(state, {"processes": False})
    assert (given.processes, given.workers) == (False, 1)


def test_a_certificate_is_kept_and_taken_away_with_its_key(tmp_path: Path) -> None:
    cert_file, key_file = map(str, certificate(tmp_path))
    (tmp_path / "etc").mkdir()
    secured = plan_of(shape.options(tmp_path, {"tls_cert": cert_file, "tls_key": key_file}))
    shape.remember(secured)
    assert plan_of(shape.options(tmp_path, {})).endpoint("compute").startswith("https://")
    plain = plan_of(shape.options(tmp_path, {"tls_cert": ""}))
    assert (plain.endpoint("compute")[:7], plain.options.tls_key, plain.authorities) == ("http://", "", None)


def test_the_hosts_that_were_chosen_stay_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    plan = plan_of(Options(tmp_path))
    shape.remember(replace(plan, choice=Choice("libvirt", "bridged")))
    assert shape.options(tmp_path, {}).driver == "libvirt"
    shape.remember(plan)
    assert shape.options(tmp_path, {}).driver == "simulated"


def test_without_a_cloud_the_defaults_hold(tmp_path: Path) -> None:
    assert shape.options(tmp_path, {"cells": None}) == Options(tmp_path)


def test_a_cloud_whose_launcher_remembered_nothing_is_known_by_its_record(tmp_path: Path) -> None:
    record = {"driver": "simulated", "auth": "noauth2", "mode": "processes", "cells": [{}, {}, {}, {}]}
    (tmp_path / "polycell.json").write_text(json.dumps(record), encoding="utf-8")
    found = Options(tmp_path, driver="simulated", auth="noauth2", processes=True, cells=3)
    assert shape.options(tmp_path, {}) == found


def test_a_file_that_cannot_be_read_is_named(state: Path) -> None:
    (state / "etc" / "options.json").write_text("{", encoding="utf-8")
    with pytest.raises(Invalid, match=r"options\.json"):
        shape.options(state, {})
