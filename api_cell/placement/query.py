"""Query strings of the Placement API, parsed into the requests of mapping_db.placement."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import Enum
from uuid import UUID

from api_cell.edge.route import Request, Version
from api_cell.edge.versioned import BEGINNING, Field, value_at, values_at
from api_cell.placement import behaviours
from cell_service.errors import BadQuery, MissingQuery, RepeatedQuery
from cell_service.model.numbers import is_whole
from mapping_db.placement.search import ProviderQuery
from mapping_db.placement.ways import CandidateRequest


class Given(Enum):
    """How often a parameter may be given: once; several times; or several times, of which one counts."""

    ONCE = 1
    REPEATED = 2
    FIRST_COUNTS = 3
    LAST_COUNTS = 4


ONCE, REPEATED, FIRST_COUNTS, LAST_COUNTS = Given
Parameters = tuple[Field[Given], ...]
"""The parameters of a query."""

PROVIDER_LIST: Parameters = (
    Field("name", ONCE),
    Field("uuid", ONCE),
    Field("member_of", ONCE, since=(1, 3), until=(1, 23)),
    Field("member_of", REPEATED, since=(1, 24)),
    Field("resources", ONCE, since=(1, 4)),
    Field("in_tree", ONCE, since=(1, 14)),
    Field("required", LAST_COUNTS, since=(1, 18), until=(1, 38)),
    Field("required", REPEATED, since=(1, 39)),
)
CANDIDATES: Parameters = (
    Field("limit", FIRST_COUNTS, since=(1, 16)),
    Field("group_policy", FIRST_COUNTS, since=(1, 25)),
    Field("root_required", ONCE, since=(1, 35)),
    Field("same_subtree", REPEATED, since=(1, 36)),
)
OF_GROUPS: Parameters = (
    Field("resources", ONCE),
    Field("required", LAST_COUNTS, since=(1, 17), until=(1, 38)),
    Field("required", REPEATED, since=(1, 39)),
    Field("in_tree", ONCE, since=(1, 31)),
    Field("member_of", ONCE, since=(1, 21), until=(1, 23)),
    Field("member_of", REPEATED, since=(1, 24)),
)
"""The parameters of candidates for each group of resources: their names may have the group's suffix."""
NOT_FITTING = "Invalid query string parameters: {problem}"
UNKNOWN_CLASS = "Invalid resource class in resources parameter"
_CLASS = re.compile(r"^[A-Z0-9_]+$")


def _of_group(suffix: str) -> re.Pattern[str]:
    names = "|".join(dict.fromkeys(field.name for field in OF_GROUPS))
    return re.compile(rf"^({names})({suffix})?$")


_GROUPS: tuple[tuple[Version, re.Pattern[str]], ...] = (
    (BEGINNING, _of_group("")),
    ((1, 25), _of_group(r"[1-9][0-9]*")),
    ((1, 33), _of_group(r"[a-zA-Z0-9_-]{1,64}")),
)
"""A group's parameter, and the group's suffix, which is "" before there were several groups."""


def _shown(pattern: re.Pattern[str]) -> str:
    """The pattern of groups' parameters as one for each of them."""
    names, _, rest = pattern.pattern.removeprefix("^(").partition(")")
    return ", ".join(f"'^{name}{rest}'" for name in names.split("|"))


def only(req: Request, parameters: Parameters) -> None:
    """Raises BadQuery for a parameter that does not exist at this version, RepeatedQuery for one given twice."""
    known = values_at(parameters, req.version)
    for name, values in req.query.items():
        _admit(name, values, known.get(name))


def _admit(name: str, values: list[str], given: Given | None) -> None:
    """`given` None: there is no such parameter."""
    if given is None:
        raise _bad(f"Additional properties are not allowed ('{name}' was unexpected)")
    if len(values) > 1 and given is ONCE:
        if name.startswith("member_of"):
            raise RepeatedQuery(reason="Multiple member_of parameters are not supported")
        raise RepeatedQuery(reason=f"Query parameter '{name}' may be specified only once.")


def demand_length(name: str, text: str | None) -> None:
    """Raises BadQuery for an id that is no id: of no characters, or of more than 255."""
    if text is not None and not 1 <= len(text) <= 255:
        rule, problem = ("minLength", "short") if not text else ("maxLength", "long")
        raise _bad(f"'{text[:255]}' is too {problem}. Failed validating '{rule}' in schema['properties']['{name}']")


def uuid(text: str, name: str) -> str:
    try:
        return str(UUID(text))
    except ValueError as error:
        expected = f"Expected '{name}' parameter to contain valid UUID(s). Got: {text}"
        if name.startswith("in_tree"):
            expected = f"Expected '{name}' parameter to be a format of uuid. Got: {text}"
        raise _bad(f"'{text}' is not a 'uuid'" if name == "uuid" else expected) from error


def resources(text: str) -> dict[str, int]:
    """`VCPU:2,MEMORY_MB:512`. Raises BadQuery."""
    found: dict[str, int] = {}
    for part in text.split(","):
        name, colon, amount = part.strip().partition(":")
        amount = amount.strip()
        if not colon or not _CLASS.match(name) or name in found:
            raise BadQuery(
                reason="Badly formed resources parameter. Expected resources query string parameter in form: "
                f"?resources=VCPU:2,MEMORY_MB:1024. Got: {part if text.strip() else 'empty string'}."
            )
        if not is_whole(amount.removeprefix("-")):
            raise BadQuery(reason=f"Requested resource {name} expected positive integer amount. Got: {amount}.")
        if int(amount) < 1:
            raise BadQuery(reason=f"Requested resource {name} requires amount >= 1. Got: {amount}.")
        found[name] = int(amount)
    return found


def required(version: Version, values: list[str]) -> tuple[tuple[frozenset[str], ...], frozenset[str]]:
    """Traits that must and must not be: `A,!B`, from 1.39 also `in:A,B`, and repeated; before, the last counts."""
    forbidden_too = behaviours.TRAITS_ARE_FORBIDDEN.at(version)
    many = behaviours.ONE_OF_SEVERAL_TRAITS.at(version)
    all_of: list[frozenset[str]] = []
    none_of: set[str] = set()
    form = "HW_CPU_X86_VMX,!CUSTOM_MAGIC" if forbidden_too else "HW_CPU_X86_VMX,CUSTOM_MAGIC"
    for text in values if many else values[-1:]:
        malformed = _bad(f"Expected 'required' parameter value of the form: {form}. Got: {text}")
        if text.startswith("in:"):
            all_of.append(_one_of(text, many=many))
            continue
        for name in text.split(","):
            bare = name.strip().removeprefix("!") if forbidden_too else name.strip()
            if not bare or not _CLASS.match(bare):
                raise malformed
            if name.strip().startswith("!"):
                none_of.add(bare)
            else:
                all_of.append(frozenset({bare}))
    return tuple(all_of), frozenset(none_of)


def _one_of(text: str, *, many: bool) -> frozenset[str]:
    """`in:A,B`, of which a provider must have one. Raises BadQuery."""
    form = "format 'in:HW_CPU_X86_VMX,CUSTOM_MAGIC'"
    if not many:
        raise _bad(f"The {form} only supported since microversion 1.39. Got: {text}")
    names = [name.strip() for name in text[3:].split(",")]
    if any(name.startswith("!") for name in names):
        raise _bad(f"The {form} does not support forbidden traits. Got: {text}")
    if not all(names):
        raise _bad(f"Expected 'required' parameter value of the {form}. Got an empty trait in: {text}")
    return frozenset(names)


def _demand_consistent(required: Iterable[tuple[str, ProviderQuery]]) -> None:
    """Raises BadQuery where a trait is required and forbidden. `required`: a parameter's name, and its conditions."""
    clashes = {name: sorted(trait for some in wanted.required if some <= wanted.forbidden for trait in some)
               for name, wanted in required}  # fmt: skip
    if found := [f"{name}: ({', '.join(traits)})" for name, traits in sorted(clashes.items()) if traits]:
        raise BadQuery(
            reason=f"Conflicting required and forbidden traits found in the following traits keys: {', '.join(found)}"
        )


def member_of(version: Version, values: list[str]) -> tuple[tuple[frozenset[str], ...], frozenset[str]]:
    """Aggregates: a uuid, `in:a,b`; from 1.32 `!a` and `!in:a,b`; from 1.24 repeated."""
    forbidden_too = behaviours.AGGREGATES_ARE_FORBIDDEN.at(version)
    any_of: list[frozenset[str]] = []
    none_of: set[str] = set()
    for text in values:
        negated = text.startswith("!")
        if negated and not forbidden_too:
            raise BadQuery(reason="Forbidden member_of parameters are not supported in the specified microversion")
        body = text[1:] if negated else text
        listed = body.startswith("in:")
        if not listed and "," in body:
            raise BadQuery(
                reason="Multiple values for 'member_of' must be prefixed with the 'in:' or '!in:' keyword using the "
                "valid microversion."
            )
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
    _demand_consistent([("required", wanted)])
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
    subtrees = tuple(
        frozenset(part.strip() for part in value.split(",")) for value in req.query.get("same_subtree", [])
    )
    _demand_resources(req, groups, frozenset().union(*subtrees) if subtrees else frozenset())
    _demand_consistent((f"required{suffix}", wanted) for suffix, wanted in groups.items())
    policy = _first(req, "group_policy")
    if policy not in (None, "none", "isolate"):
        raise _bad(f"'{policy}' is not one of ['none', 'isolate']")
    if policy is None and sum(1 for suffix, wanted in groups.items() if suffix and wanted.resources) > 1:
        raise MissingQuery(
            reason='The "group_policy" parameter is required when specifying more than one "resources{N}" parameter.'
        )
    root_all, root_none = required(req.version, req.query.get("root_required", []))
    if clash := sorted(name for some in root_all if some <= root_none for name in some):
        raise BadQuery(reason=f"Conflicting required and forbidden traits found in root_required: {', '.join(clash)}")
    return CandidateRequest(
        groups=groups,
        isolate=policy == "isolate",
        limit=_limit(req),
        root_required=frozenset().union(*root_all) if root_all else frozenset(),
        root_forbidden=root_none,
        same_subtree=subtrees,
        nested=behaviours.CANDIDATES_IN_TREES.at(req.version),
    )


def _demand_resources(req: Request, groups: Mapping[str, ProviderQuery], in_subtrees: frozenset[str]) -> None:
    """Every group has resources, but for those that `same_subtree` names. Raises BadQuery, MissingQuery."""
    idle = sorted(suffix for suffix, wanted in groups.items() if not wanted.resources)
    orphans = [suffix for suffix in idle if suffix not in in_subtrees]
    if behaviours.GROUPS_MAY_HAVE_NOTHING.at(req.version):
        if groups and len(idle) == len(groups):
            raise MissingQuery(reason="There must be at least one resources or resources[$S] parameter.")
        if "" in in_subtrees:
            raise BadQuery(reason="Empty string (unsuffixed group) can not be specified in `same_subtree`")
        if strange := sorted(in_subtrees - groups.keys()):
            raise BadQuery(
                reason=f"Real suffixes should be specified in `same_subtree`: {', '.join(strange)} not found in "
                f"{', '.join(sorted(groups))}."
            )
        if suffixed := [suffix for suffix in orphans if suffix]:
            raise BadQuery(
                reason="Resourceless suffixed group request should be specified in `same_subtree` query param: bad "
                f"group(s) - {', '.join(suffixed)}."
            )
    for name, words in (("required", "traits"), ("member_of", "member_of")):
        if keys := [f"{name}{suffix}" for suffix in orphans if f"{name}{suffix}" in req.query]:
            raise BadQuery(
                reason=f"All {words} parameters must be associated with resources. Found the following orphaned "
                f"{words} keys: {', '.join(keys)}"
            )
    if orphans:
        raise BadQuery(reason="All request groups must specify resources.")
    if not groups:
        raise MissingQuery(reason="At least one request group (`resources` or `resources{$S}`) is required.")


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
            if name not in known and behaviours.GROUPS_HAVE_SUFFIXES.at(req.version):
                raise _bad(f"'{name}' does not match any of the regexes: {_shown(pattern)}")
            _admit(name, values, known.get(name))
        else:
            _admit(name, values, of_groups.get(match[1]))
            suffixes.add(match[2] or "")
    if not suffixes and not behaviours.GROUPS_HAVE_SUFFIXES.at(req.version):
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
    text = _first(req, "limit")
    if text is None:
        return None
    if not _is_positive(text):
        raise _bad(f"'{text}' does not match '^[1-9][0-9]*$'. Failed validating 'pattern' in schema")
    return int(text)


def _first(req: Request, name: str) -> str | None:
    """The first value of a parameter of which that one counts."""
    return next(iter(req.query.get(name, ())), None)
