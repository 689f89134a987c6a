"""Every policy rule says what it allows and which operations it guards, for oslo.policy's generators too."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from oslo_policy import generator
from oslo_policy.policy import DocumentedRuleDefault

from api_cell.compute import policy_descriptions as compute_descriptions
from api_cell.compute.policies import RULES
from api_cell.compute.removed import gone
from api_cell.compute.routes import ROUTES
from api_cell.edge.policy_documents import guarded, operation
from api_cell.placement import policy_descriptions as placement_descriptions
from api_cell.placement.policies import RULES as PLACEMENT_RULES
from api_cell.placement.routes import ROUTES as PLACEMENT_ROUTES
from tools import policy

DOCUMENTED = {rule.name: rule for rule in policy.list_rules()}
ALLOWED = policy.allowed()
GUARD_NOTHING = {*compute_descriptions.BASE, *compute_descriptions.UNCHECKED, *placement_descriptions.BASE}
OF_ROUTES = guarded((*ROUTES, *PLACEMENT_ROUTES))
REFUSED = "POST /servers/{id}/action (os-getRDPConsole)"
WITHOUT_A_RULE = ("/flavors", "/images", "/os-volumes_boot", "/os-baremetal-nodes")
"""What any caller may read, what the image service's own policy guards, another path of /servers, and what is refused
to all callers."""


def test_every_rule_is_documented_once() -> None:
    assert len(policy.list_rules()) == len(DOCUMENTED)
    assert DOCUMENTED.keys() == {rule.name for rule in (*RULES, *PLACEMENT_RULES)}
    assert not ALLOWED.keys() & GUARD_NOTHING
    assert DOCUMENTED.keys() == ALLOWED.keys() | GUARD_NOTHING, "a text without a rule, or a rule without a text"


@pytest.mark.parametrize("name", sorted(DOCUMENTED))
def test_a_rule_says_what_it_allows(name: str) -> None:
    rule = DOCUMENTED[name]
    assert re.match(r"(The caller|Nothing) [a-z]+ .*[^.]\.$", rule.description)
    assert ".." not in rule.description
    assert rule.check_str


@pytest.mark.parametrize("name", sorted(DOCUMENTED.keys() - GUARD_NOTHING))
def test_a_rule_guards_operations_that_there_are(name: str) -> None:
    rule = DOCUMENTED[name]
    assert isinstance(rule, DocumentedRuleDefault)
    shown = [f"{each['method']} {each['path']}" for each in rule.operations]
    assert shown == [*OF_ROUTES.get(name, ()), *ALLOWED[name].inside]
    assert shown, "neither a route nor an operation checks it"
    assert len(set(shown)) == len(shown)
    assert set(ALLOWED[name].inside) <= {operation(route) for route in (*ROUTES, *PLACEMENT_ROUTES)}


def test_rules_that_guard_nothing_are_no_routes_rules() -> None:
    assert not GUARD_NOTHING & OF_ROUTES.keys()


def test_every_operation_without_a_rule_of_its_route_is_named_by_a_rule() -> None:
    inside = {each for permission in ALLOWED.values() for each in permission.inside}
    bare = {
        operation(route)
        for route in ROUTES
        if route.rule is None and not route.open and route.handler is not gone
        if not route.path.startswith(WITHOUT_A_RULE)
    }
    assert bare - inside == {REFUSED}


def test_oslos_generator_prints_texts_and_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generator, "get_policies_dict", lambda names: {name: policy.list_rules() for name in names})
    file = tmp_path / "sample.yaml"
    generator._generate_sample(["polycell"], str(file))
    text = file.read_text(encoding="utf-8")
    operations = [each for rule in DOCUMENTED.values() for each in getattr(rule, "operations", ())]
    assert len(operations) > 200
    for each in operations:
        assert f"# {each['method']}  {each['path']}\n" in text
    assert policy.main(["sample"]) == 0
    printed = capsys.readouterr().out
    assert sorted(set(printed.splitlines())) == sorted(set(text.splitlines()))
