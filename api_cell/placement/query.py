"""Query strings of the Placement API, parsed into the requests of mapping_db.placement."""

from __future__ import annotations

import re
from uuid import UUID

from api_cell.edge.route import Request, Version
from api_cell.edge.versioned import BEGINNING, Field, value_at, values_at
from api_cell.placement import behaviours
from cell_service.errors import BadQuery, MissingQuery, RepeatedQuery
from cell_service.model.numbers import is_whole
from mapping_db.placement.candidates import CandidateRequest
from mapping_db.placement.search import ProviderQuery

Parameters = tuple[Field[bool], ...]
"""Parameters of a query: each may be given once (ONCE) or several times (REPEATED)."""
ONCE, REPEATED = False, True

PROVIDER_LIST: Parameters = (
    Field("name", ONCE),
    Field("uuid", ONCE),
    Field("member_of", ONCE, since=(1, 3), until=(1, 23)),
    Field("member_of", REPEATED, since=(1, 24)),
    Field("resources", ONCE, since=(1, 4)),
    Field("in_tree", ONCE, since=(1, 14)),
    Field("required", ONCE, since=(1, 18), until=(1, 38)),
    Field("required", REPEATED, since=(1, 39)),
)
CANDIDATES: Parameters = (
    Field("limit", ONCE, since=(1, 16)),
    Field("group_policy", ONCE, since=(1, 25)),
    Field("root_required", ONCE, since=(1, 35)),
    Field("same_subtree", REPEATED, since=(1, 36)),
)
OF_GROUPS: Parameters = (
    Field("resources", ONCE),
    Field("required", ONCE, since=(1, 17), until=(1, 38)),
    Field("required", REPEATED, since=(1, 39)),
    Field("member_of", ONCE, since=(1, 21), until=(1, 23)),
    Field("member_of", REPEATED, since=(1, 24)),
    Field("in_tree", ONCE, since=(1, 31)),
)
"""The parameters of candidates for each group of resources: their names may have the group's suffix."""
NOT_FITTING = "Invalid query string parameters: {problem}"
UNKNOWN_CLASS = "Invalid resource class in resources parameter"
_CLASS = re.compile(r"^[A-Z0-9_]+$")


def _of_group(suffix: str) -> re.Pattern[str]:
    names = "|".join(sorted({field.name for field in OF_GROUPS}))
    return re.compile(rf"^({names})({suffix})?$")


_GROUPS: tuple[tuple[Version, re.Pattern[str]], ...] = (
    (BEGINNING, _of_group("")),
    ((1, 25), _of_group(r"[1-9][0-9]*")),
    ((1, 33), _of_group(r"[a-zA-Z0-9_-]{1,64}")),
)
"""A group's parameter, and the group's suffix, which is "" before there were several groups."""


def only(req: Request, parameters: Parameters) -> None:
    """Raises BadQuery for a parameter that does not exist at this version, RepeatedQuery for one given twice."""
    known = values_at(parameters, req.version)
    for name, values in req.query.items():
        _admit(name, values, known.get(name))


def _admit(name: str, values: list[str], repeated: bool | None) -> None:
    """`repeated` None: there is no such parameter."""
    if repeated is None:
        raise _bad(f"Additional properties are not allowed ('{name}' was unexpected)")
    if len(values) > 1 and not repeated:
        raise RepeatedQuery(reason=f"Query parameter '{name}' was given more than once.")


def uuid(text: str, name: str) -> str:
    try:
        return str(UUID(text))
    except ValueError as error:
        expected = f"Expected '{name}' parameter to contain valid UUID(s). Got: {text}"
        raise _bad(expected if name.startswith("member_of") else f"'{text}' is not a 'uuid' in '{name}'") from error


def resources(text: str) -> dict[str, int]:
    """`VCPU:2,MEMORY_MB:512`. Raises BadQuery."""
    found: dict[str, int] = {}
    for part in text.split(","):
        name, colon, amount = part.strip().partition(":")
        if not colon or not _CLASS.match(name) or name in found:
            raise BadQuery(
                reason="Badly formed resources parameter. Expected resources query string parameter in form: "
                f"?resources=VCPU:2,MEMORY_MB:1024. Got: {part or 'empty string'}."
            )
        if not is_whole(amount):
            raise BadQuery(reason=f"Requested resource {name} expected positive integer amount. Got: {amount}.")
        if int(amount) < 1:
            raise BadQuery(reason=f"Requested resource {name} requires amount >= 1. Got: {amount}.")
        found[name] = int(amount)
    return found


def required(version: Version, values: list[str]) -> tuple[tuple[frozenset[str], ...], frozenset[str]]:
    """Traits that must and must not be: `A,!B`, from 1.39 also `in:A,B`, and repeated."""
    forbidden_too = behaviours.TRAITS_ARE_FORBIDDEN.at(version)
    many = behaviours.ONE_OF_SEVERAL_TRAITS.at(version)
    all_of: list[frozenset[str]] = []
    none_of: set[str] = set()
    form = "HW_CPU_X86_VMX,!CUSTOM_MAGIC" if forbidden_too else "HW_CPU_X86_VMX,CUSTOM_MAGIC"
    for text in values:
        malformed = _bad(f"Expected 'required' parameter value of the form: {form}. Got: {text}")
        if many and text.startswith("in:"):
            names = [name.strip() for name in text[3:].split(",")]
            if any(not name or name.startswith("!") for name in names):
                raise malformed
            all_of.append(frozenset(names))
            continue
        for name in text.split(","):
            bare = name.strip().removeprefix("!") if forbidden_too else name.strip()
            if not bare or not _CLASS.match(bare):
                raise malformed
            if name.strip().startswith("!"):
                none_of.add(bare)
            else:
                all_of.append(frozenset({bare}))
    if clash := sorted(name for some in all_of if len(some) == 1 for name in some & none_of):
        raise BadQuery(reason=f"Conflicting required and forbidden traits: {', '.join(clash)}")
    return tuple(all_of), frozenset(none_of)


def member_of(version: Version, values: list[str]) -> tuple[tuple[frozenset[str], ...], frozenset[str]]:
    """Aggregates: a uuid, `in:a,b`; from 1.32 `!a` and `!in:a,b`; from 1.24 repeated."""
    forbidden_too = behaviours.AGGREGATES_ARE_FORBIDDEN.at(version)
    any_of: list[frozenset[str]] = []
    none_of: set[str] = set()
    for text in values:
        negated = forbidden_too and text.startswith("!")
        body = text[1:] if negated else text
        listed = body.startswith("in:")
        names = frozenset(uuid(part, "member_of") for part in (body[3:].split(",") if listed else [body]))
        if negated:
            none_of |= names
        else:
            any_of.append(names)
    return tuple(any_of), frozenset(none_of)


def provider_list(req: Request) -> ProviderQuery:
    """The filters of GET /resource_providers."""
    only(req, PROVIDER_LIST)
    wanted = _group(req, "")
    plain_uuid = req.one("uuid")
    return ProviderQuery(
        name=req.one("name"),
        uuid=uuid(plain_uuid, "uuid") if plain_uuid is not None else None,
        in_tree=wanted.in_tree,
        resources=wanted.resources,
        required=wanted.required,
        forbidden=wanted.forbidden,
        member_of=wanted.member_of,
        not_member_of=wanted.not_member_of,
    )


def candidates(req: Request) -> CandidateRequest:
    """The whole of GET /allocation_candidates."""
    groups = {suffix: _group(req, suffix) for suffix in _suffixes(req)}
    subtrees = tuple(frozenset(value.split(",")) for value in req.query.get("same_subtree", []))
    named = frozenset().union(*subtrees) if subtrees else frozenset()
    for suffix, wanted in groups.items():
        if not wanted.resources and (not suffix or suffix not in named):
            raise BadQuery(reason=f"All requested groups must have resources; group '{suffix}' has none.")
    if strange := sorted(named - groups.keys()):
        raise BadQuery(reason=f"Real suffixes should be specified in same_subtree: {', '.join(strange)}")
    if not any(wanted.resources for wanted in groups.values()):
        raise MissingQuery(reason="At least one request group (`resources` or `resources{$S}`) is required.")
    policy = req.one("group_policy")
    if policy not in (None, "none", "isolate"):
        raise _bad(f"'{policy}' is not one of ['none', 'isolate']")
    if policy is None and sum(1 for suffix, wanted in groups.items() if suffix and wanted.resources) > 1:
        raise MissingQuery(reason='The "group_policy" parameter is required when specifying more than one group.')
    root_all, root_none = required(req.version, req.query.get("root_required", []))
    return CandidateRequest(
        groups=groups,
        isolate=policy == "isolate",
        limit=_limit(req),
        root_required=frozenset().union(*root_all) if root_all else frozenset(),
        root_forbidden=root_none,
        same_subtree=subtrees,
        nested=behaviours.CANDIDATES_IN_TREES.at(req.version),
    )


def _bad(problem: str) -> BadQuery:
    return BadQuery(reason=NOT_FITTING.format(problem=problem))


def _is_positive(text: str) -> bool:
    """Whether it is a whole number above 0 within 64 bits."""
    return is_whole(text) and int(text) > 0


def _suffixes(req: Request) -> list[str]:
    """The suffixes of all groups. Raises BadQuery for anything else in the query."""
    known, of_groups = values_at(CANDIDATES, req.version), values_at(OF_GROUPS, req.version)
    pattern = value_at(_GROUPS, req.version)
    suffixes: set[str] = set()
    for name, values in req.query.items():
        match = pattern.match(name)
        if match is None:
            _admit(name, values, known.get(name))
        else:
            _admit(name, values, of_groups.get(match[1]))
            suffixes.add(match[2] or "")
    if not suffixes:
        raise MissingQuery(reason="'resources' is a required property")
    return sorted(suffixes)


def _group(req: Request, suffix: str) -> ProviderQuery:
    amounts = req.one(f"resources{suffix}")
    tree = req.one(f"in_tree{suffix}")
    all_of, none_of = required(req.version, req.query.get(f"required{suffix}", []))
    inside, outside = member_of(req.version, req.query.get(f"member_of{suffix}", []))
    return ProviderQuery(
        in_tree=uuid(tree, f"in_tree{suffix}") if tree is not None else None,
        resources=resources(amounts) if amounts is not None else {},
        required=all_of,
        forbidden=none_of,
        member_of=inside,
        not_member_of=outside,
    )


def _limit(req: Request) -> int | None:
    text = req.one("limit")
    if text is None:
        return None
    if not _is_positive(text):
        raise _bad(f"'{text}' does not match '^[1-9][0-9]*$'")
    return int(text)
