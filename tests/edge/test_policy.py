"""Policies: defaults, an operator's file over them, and the file changing under a running process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from api_cell.compute.policies import RULES
from api_cell.config import PolicySection
from api_cell.edge import policy as module
from api_cell.edge.policy import Policy, Rule
from cell_service.context import Context
from cell_service.errors import PolicyForbidden

ANN = Context("r", user_id="ann", project_id="p1", roles=("member", "reader"))
ADMIN = Context("r", user_id="root", project_id="p0", roles=("admin",), is_admin=True)
SHOW = "os_compute_api:servers:show"


def write(file: Path, text: str, age: int) -> None:
    file.write_text(text)
    os.utime(file, ns=(age, age))


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the file at every question."""
    monkeypatch.setattr(module, "RELOAD_SECONDS", -1.0)


def test_the_defaults_are_novas() -> None:
    policy = Policy(RULES)

    assert policy.allows(ANN, SHOW)
    assert not policy.allows(ANN, SHOW, {"project_id": "p2"})
    assert policy.allows(ADMIN, SHOW, {"project_id": "p2"})
    assert not policy.allows(ANN, "os_compute_api:os-services:list")
    assert policy.allows(ANN, "os_compute_api:os-keypairs:show", {"user_id": "ann"})
    assert not policy.allows(ANN, "os_compute_api:os-keypairs:show", {"user_id": "bob"})
    assert not policy.allows(ADMIN, "compute:servers:resize:cross_cell")
    assert not policy.allows(ADMIN, "no_such_rule")
    assert policy.is_admin(("Admin",))
    with pytest.raises(PolicyForbidden, match="os-services:list"):
        policy.demand(ANN, "os_compute_api:os-services:list")


def test_a_file_overrides_and_is_followed(tmp_path: Path, eager: None) -> None:
    file = tmp_path / "policy.yaml"
    policy = Policy(RULES, PolicySection(policy_file=str(file)))
    assert policy.allows(ANN, SHOW)
    write(file, f'"{SHOW}": "!"\n"context_is_admin": "role:boss"\n', 1)
    assert not policy.allows(ANN, SHOW)
    assert not policy.is_admin(("admin",))
    assert policy.is_admin(("boss",))
    write(file, f'"{SHOW}": "role:auditor or user_name:%(owner)s"\n', 2)
    assert not policy.allows(ANN, SHOW)
    file.unlink()
    assert policy.allows(ANN, SHOW)


def test_a_broken_file_leaves_the_last_rules(tmp_path: Path, eager: None) -> None:
    file = tmp_path / "policy.yaml"
    write(file, f'"{SHOW}": "!"\n', 1)
    policy = Policy(RULES, PolicySection(policy_file=str(file)))
    assert not policy.allows(ANN, SHOW)
    for age, text in enumerate(("{{{", "- a\n- b\n", "just words"), 2):
        write(file, text, age)
        assert not policy.allows(ANN, SHOW)


def test_a_rule_that_looks_at_the_target_is_asked_each_time() -> None:
    policy = Policy([Rule("by_name", "'big':%(size)s", scope=()), Rule("mine", "project_id:%(project_id)s", scope=())])

    assert policy.allows(ANN, "by_name", {"size": "big"})
    assert not policy.allows(ANN, "by_name", {"size": "small"})
    assert policy.allows(ANN, "mine")
    assert not policy.allows(ANN, "mine", {"project_id": "p2"})
