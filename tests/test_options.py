"""Every option is explained, and the page of all options is what the code has."""

from __future__ import annotations

from pathlib import Path

import pytest
from oslo_config import cfg

from api_cell.compute.policies import RULES
from tools import options, policy

OPTIONS = [(name, each) for name, found in options.list_opts() for each in found]


def test_all_sections_are_found() -> None:
    names = {name for name, _ in options.list_opts()}
    assert names >= {
        "DEFAULT", "api", "api_database", "cache", "cells", "cinder", "cors", "database", "filter_scheduler", "glance",
        "libvirt", "neutron", "oslo_policy", "quota", "secrets", "ssl", "vnc", "wsgi",
    }  # fmt: skip
    assert len(OPTIONS) > 200


@pytest.mark.parametrize(("section", "option"), OPTIONS, ids=lambda each: getattr(each, "name", each))
def test_an_option_says_what_it_is_for(section: str, option: cfg.Opt) -> None:
    assert option.help, f"[{section}] {option.name} has no help"
    assert option.help.endswith("."), option.help


def test_the_page_of_all_options_is_fresh() -> None:
    page = Path(options.__file__).parents[1] / "docs" / "configuration.md"
    assert page.read_text(encoding="utf-8") == options.page(), "python -m tools.options > docs/configuration.md"


def test_oslos_generator_gets_every_rule() -> None:
    assert [rule.name for rule in policy.list_rules()] == [rule.name for rule in RULES]
