"""Policies: defaults, an operator's file over them, and the file changing under a running process."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from api_cell.compute import policies as compute_policies
from api_cell.compute.policies import RULES
from api_cell.config import PolicySection, read_settings
from api_cell.edge import policy as module
from api_cell.edge.policy import Policy
from api_cell.edge.policy_rules import Rule
from api_cell.placement import policies as placement_policies
from cell_service.config import load
from cell_service.context import Context
from cell_service.errors import Invalid, PolicyForbidden

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


def test_directories_of_files_win_in_the_order_of_their_names(tmp_path: Path, eager: None) -> None:
    file, first, second = tmp_path / "policy.yaml", tmp_path / "policy.d", tmp_path / "more"
    policy = Policy(RULES, PolicySection(policy_file=str(file), policy_dirs=(str(first), str(second))))
    assert policy.allows(ANN, SHOW)
    first.mkdir()
    write(first / "50.yaml", f'"{SHOW}": "!"', 1)
    assert not policy.allows(ANN, SHOW)
    write(file, f'"{SHOW}": "role:member"', 1)
    assert not policy.allows(ANN, SHOW)
    write(first / "60.json", json.dumps({SHOW: "role:member"}), 1)
    assert policy.allows(ANN, SHOW)
    second.mkdir()
    write(second / "a", f'"{SHOW}": "!"', 1)
    assert not policy.allows(ANN, SHOW)
    (second / "a").unlink()
    write(second / ".a", f'"{SHOW}": "!"', 1)
    (second / "below").mkdir()
    write(second / "below" / "a", f'"{SHOW}": "!"', 1)
    assert policy.allows(ANN, SHOW)


def test_a_broken_file_of_a_directory_leaves_the_last_rules(tmp_path: Path, eager: None) -> None:
    section = PolicySection(policy_dirs=(str(tmp_path),))
    write(tmp_path / "a.yaml", f'"{SHOW}": "!"', 1)
    policy = Policy(RULES, section)
    write(tmp_path / "b.yaml", "{{{", 1)
    assert not policy.allows(ANN, SHOW)
    with pytest.raises(Invalid, match=r"b\.yaml"):
        Policy(RULES, section)


def test_a_directory_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "policy.d").touch()
    with pytest.raises(Invalid, match=r"policy\.d"):
        Policy(RULES, PolicySection(policy_dirs=(str(tmp_path / "policy.d"),)))


def test_paths_are_those_of_oslo_policy(tmp_path: Path) -> None:
    conf = tmp_path / "nova.conf"
    conf.write_text("")
    found = read_settings(load([str(conf)])).policy
    assert (found.policy_file, found.policy_dirs) == (str(tmp_path / "policy.yaml"), (str(tmp_path / "policy.d"),))
    (tmp_path / "own.d").mkdir()
    conf.write_text(f"[oslo_policy]\npolicy_file = own.yaml\npolicy_dirs = own.d\npolicy_dirs = {tmp_path}/x\n")
    found = read_settings(load([str(conf)])).policy
    assert found.policy_file == str(tmp_path / "own.yaml")
    assert found.policy_dirs == (str(tmp_path / "own.d"), str(tmp_path / "x"))


def policy_with(tmp_path: Path, rules: dict[str, str], **section: bool) -> Policy:
    file = tmp_path / "policy.yaml"
    file.write_text(json.dumps(rules))
    return Policy(RULES, PolicySection(policy_file=str(file), **section))


FORMER_NAMES = sorted({rule.former.name for rule in RULES if rule.former} - {"rule:admin_api", "rule:admin_or_owner"})


@pytest.mark.parametrize("name", FORMER_NAMES)
def test_a_deprecated_name_sets_the_rules_that_took_its_place(tmp_path: Path, name: str) -> None:
    policy = policy_with(tmp_path, {name: "!"})
    for rule in RULES:
        if rule.former and rule.former.name == name:
            assert not policy.allows(ADMIN, rule.name), rule.name
            assert policy_with(tmp_path, {name: "!", rule.name: "@"}).allows(ANN, rule.name)


def test_a_deprecated_name_with_its_former_default_changes_nothing(tmp_path: Path) -> None:
    former = {rule.former.name: rule.former.check for rule in RULES if rule.former}
    policy = policy_with(tmp_path, former)
    auditor = Context("r", user_id="eve", project_id="p1", roles=("auditor",))
    assert policy.allows(ANN, "os_compute_api:os-attach-interfaces:create")
    assert not policy.allows(auditor, "os_compute_api:os-attach-interfaces:create")


def test_former_defaults_are_in_force_where_the_operator_says_so(tmp_path: Path) -> None:
    auditor = Context("r", user_id="eve", project_id="p1", roles=("auditor",))
    policy = policy_with(tmp_path, {}, enforce_new_defaults=False)
    assert policy.allows(auditor, "os_compute_api:os-attach-interfaces:create")
    assert not policy.allows(auditor, "os_compute_api:os-attach-interfaces:create", {"project_id": "p2"})
    assert not policy_with(tmp_path, {}).allows(auditor, "os_compute_api:os-attach-interfaces:create")


def test_deprecated_and_unknown_names_are_warned_of_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    policy_with(
        tmp_path,
        {
            "os_compute_api:os-services": "role:boss",
            "os_compute_api:servers:crate": "!",
            SHOW: "rule:mine",
            "mine": "@",
        },
    )
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warned) == 2
    assert "name=os_compute_api:os-services instead=os_compute_api:os-services:delete," in warned[0]
    assert warned[1].endswith("name=os_compute_api:servers:crate")


def test_each_api_judges_its_own_names() -> None:
    assert placement_policies.judges("placement:no:such")
    assert not placement_policies.judges("os_compute_api:servers:crate")
    assert compute_policies.judges("os_compute_api:servers:crate")
    assert not compute_policies.judges("placement:no:such")


def test_rules_that_refer_to_themselves_refuse_and_others_stay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    policy = policy_with(tmp_path, {SHOW: "rule:a", "a": "role:x or rule:b", "b": "not rule:a"})
    assert not policy.allows(ADMIN, SHOW)
    assert policy.allows(ANN, "os_compute_api:servers:index")
    assert [r.getMessage()[-1] for r in caplog.records if "itself" in r.getMessage()] == ["a", "b"]


@pytest.mark.parametrize("text", ["{{{", "- a", "just words"])
def test_a_broken_file_at_the_start_is_an_error(tmp_path: Path, text: str) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(text)
    with pytest.raises(Invalid, match=r"policy\.yaml"):
        Policy(RULES, PolicySection(policy_file=str(file)))


def test_a_rule_that_looks_at_the_target_is_asked_each_time() -> None:
    policy = Policy([Rule("by_name", "'big':%(size)s", scope=()), Rule("mine", "project_id:%(project_id)s", scope=())])

    assert policy.allows(ANN, "by_name", {"size": "big"})
    assert not policy.allows(ANN, "by_name", {"size": "small"})
    assert policy.allows(ANN, "mine")
    assert not policy.allows(ANN, "mine", {"project_id": "p2"})


def test_a_route_with_a_rule_that_there_is_not_is_found_at_the_start() -> None:
    policy = Policy(RULES)
    policy.demand_known([SHOW])
    with pytest.raises(Invalid, match="servers:shew"):
        policy.demand_known([SHOW, "os_compute_api:servers:shew"])


def test_the_rules_that_the_code_names_are_there() -> None:
    """What is asked of the policy under another name is forbidden to everybody."""
    known = {rule.name for rule in (*RULES, *placement_policies.RULES)}
    root, names = Path(compute_policies.__file__).parents[1], set()
    for path in root.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        names |= {(name, path.name) for name in re.findall(r'"(os_compute_api:[\w:-]*\w)"', source)}
    assert len(names) > 100
    assert {(name, file) for name, file in names if name not in known} == set()
