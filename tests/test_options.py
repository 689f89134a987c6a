"""Every option is explained, and the page of all options is what the code has."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest
from oslo_config import cfg, generator

from tests.test_dependencies import TESTED
from tools import options, policy
from tools.services.option_names import NAMES
from tools.services.unknown_options import unknown_options

DOCS = Path(options.__file__).parents[1] / "docs"
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
    page = DOCS / "configuration.md"
    assert page.read_text(encoding="utf-8") == options.page(), "python -m tools.options > docs/configuration.md"


needs_tested = pytest.mark.skipif(
    any(version(name) != TESTED[name] for name in ("oslo-config", "oslo-policy")),
    reason="another version of oslo's generators may write other forms of the same",
)


@needs_tested
def test_the_sample_of_all_options_is_fresh() -> None:
    file = DOCS / "polycell.conf.sample"
    assert file.read_text(encoding="utf-8") == options.sample(), f"python -m tools.options sample > docs/{file.name}"


@needs_tested
def test_the_sample_of_all_policy_rules_is_fresh() -> None:
    file = DOCS / "policy.sample.yaml"
    assert file.read_text(encoding="utf-8") == policy.sample_text(), f"python -m tools.policy sample > docs/{file.name}"


def test_the_sample_is_what_oslos_generator_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "_list_opts", lambda names: [(name, options.list_opts()) for name in names])
    conf = cfg.ConfigOpts()
    generator.register_cli_opts(conf)
    conf(args=["--namespace", "polycell", "--output-file", str(tmp_path / "sample")], default_config_files=[])
    generator.generate(conf)
    assert (tmp_path / "sample").read_text(encoding="utf-8").rstrip() + "\n" == options.sample()


def test_the_names_that_a_process_knows_are_fresh() -> None:
    """python -m tools.options names > tools/services/option_names.py"""
    named = {section: [each.name for each in found] for section, found in options.list_opts()}
    assert {section: names.split() for section, names in NAMES.items()} == named


def test_misspelt_options_are_found(tmp_path: Path) -> None:
    first, second = tmp_path / "a.conf", tmp_path / "b.conf"
    first.write_text("[DEFAULT]\nhost = h\nservice_donw_time = 3\n[elsewhere]\nx = 1\n[neutron]\nuser_id = u\n")
    second.write_text("[quota]\ncores = 1\nkores = 2\n[DEFAULT]\nservice_donw_time = 4\n")
    assert unknown_options([str(first), str(second)]) == ["[DEFAULT] service_donw_time", "[quota] kores"]
