"""`polycell-policy`: the rules of the Compute and the Placement API as an operator's policy.yaml sees them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from oslo_policy import _parser as parser
from oslo_policy import generator
from oslo_policy._checks import FalseCheck
from oslo_policy.policy import RuleDefault

from api_cell.compute import policy_descriptions as compute_descriptions
from api_cell.compute.policies import RULES
from api_cell.compute.routes import ROUTES
from api_cell.edge.policy_documents import Permission, documented, permissions
from api_cell.edge.policy_files import PolicyFiles
from api_cell.edge.policy_rules import circular, deprecated_names, undefined_references, unknown_names
from api_cell.placement import policy_descriptions as placement_descriptions
from api_cell.placement.policies import RULES as PLACEMENT_RULES
from api_cell.placement.routes import ROUTES as PLACEMENT_ROUTES
from tools.command_line import add_common, describe

_ALL = (*PLACEMENT_RULES, *RULES)


def list_rules() -> list[RuleDefault]:
    """The entry point `oslo.policy.policies`: the rules of both APIs, each once, for oslo's generators."""
    rules = {rule.name: rule for rule in (*RULES, *PLACEMENT_RULES)}
    plain = compute_descriptions.BASE | compute_descriptions.UNCHECKED | placement_descriptions.BASE
    return list(documented(rules.values(), (*ROUTES, *PLACEMENT_ROUTES), allowed(), plain))


def allowed() -> dict[str, Permission]:
    """The permissions of the rules of both APIs, without those that guard nothing."""
    compute = permissions(compute_descriptions.ALLOWED, "os_compute_api:", prefixed=("compute:", "network:"))
    return compute | permissions(placement_descriptions.ALLOWED)


def sample() -> int:
    """Print a policy.yaml with every rule, what it allows and its default, all of them commented out. 0 printed."""
    sys.stdout.write(sample_text())
    return 0


def sample_text() -> str:
    """`docs/policy.sample.yaml`: what `oslopolicy-sample-generator --namespace polycell` writes."""
    return "".join(generator._format_rule_default_yaml(rule) for rule in list_rules()).rstrip() + "\n"


def listing() -> int:
    """Print each rule with its default. 0 printed."""
    for rule in list_rules():
        sys.stdout.write(f"{rule.name}\t{rule.check_str}\n")
    return 0


def check(paths: Sequence[Path]) -> int:
    """Say what is wrong with policy files, or with all files of directories (of a rule in several the last counts):
    names and references without a rule, rules that refer to themselves, checks that can't be parsed; and which names
    are deprecated, which is no fault. 0 nothing is wrong; 1 something.
    """
    overrides: dict[str, str] = {}
    try:
        for path in paths:
            overrides |= (PolicyFiles(None, (path,)) if path.is_dir() else PolicyFiles(path)).read()
            if not path.exists():
                raise FileNotFoundError(f"{path} is not there")
    except (OSError, ValueError) as error:
        sys.stdout.write(f"{error}\n")
        return 1
    wrong = [f"{name}: no such rule" for name in unknown_names(_ALL, overrides)]
    wrong += [f"{name}: {text!r} is no check" for name, text in overrides.items() if not _parses(text)]
    found = {rule.name: parser.parse_rule(rule.check) for rule in _ALL}
    found |= {name: parser.parse_rule(text) for name, text in overrides.items()}
    for name, lacking in undefined_references(found).items():
        wrong.append(f"{name}: refers to {', '.join(f'rule:{other}' for other in lacking)}, and there is no such rule")
    wrong += [f"{name}: refers to itself, directly or through other rules" for name in circular(found)]
    hints = [
        f"{name}: a deprecated name, which sets {', '.join(sorted(successors))}"
        for name, successors in deprecated_names(RULES, overrides).items()
    ]
    sys.stdout.write("".join(f"{line}\n" for line in wrong + hints))
    return 1 if wrong else 0


def _parses(text: str) -> bool:
    """A check that can't be parsed is read as one that always refuses."""
    return text.strip() == "!" or not isinstance(parser.parse_rule(text), FalseCheck)


def parser_of_all() -> argparse.ArgumentParser:
    """The whole command line."""
    made = add_common(argparse.ArgumentParser(prog="polycell-policy"))
    describe(made, "The Compute API's rules as an operator's policy.yaml sees them.")
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, run, examples in (
        ("sample", sample, ("sample", "sample > /etc/nova/policy.yaml")),
        ("list", listing, ("list", "list | grep servers:create")),
        ("check", check, ("check /etc/nova/policy.yaml", "check /etc/nova/policy.yaml /etc/nova/policy.d")),
    ):
        text = run.__doc__ or ""
        below = commands.add_parser(name, help=" ".join(text.split()).partition(". ")[0].partition(":")[0])
        describe(below, text, examples)
        if name == "check":
            below.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="policy files or directories")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code of the command."""
    args = parser_of_all().parse_args(argv)
    if args.command == "check":
        return check(args.paths)
    return sample() if args.command == "sample" else listing()


if __name__ == "__main__":
    sys.exit(main())
