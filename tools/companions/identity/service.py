"""The identity companion (Identity API v3): tokens, users, projects, roles and the service catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table

from api_cell.edge.auth import Identity
from cell_service.context import SYSTEM_CLOCK, Clock
from cell_service.db.sql.engine import Database
from cell_service.errors import NotFound, PolycellError, Unauthenticated
from cell_service.http.response import Response
from tools.companions.app import Companion, CompanionApi
from tools.companions.identity import schemas, store, tokens
from tools.companions.identity.auth import Passwords, log_in
from tools.companions.identity.grants import Grants
from tools.companions.identity.limits import LIMIT, REGISTERED, Limits
from tools.companions.identity.nouns import NOUNS, Records, targets
from tools.companions.identity.tokens import Signer, Token
from tools.companions.route import CompanionRequest, CompanionRoute
from tools.companions.store import open_store


@dataclass(frozen=True, slots=True)
class IdentitySettings:
    token_seconds: float = 3600.0
    password_rounds: int = 6
    """Cost of password hashes, as a power of two (bcrypt)."""


@dataclass(frozen=True, slots=True)
class Seed:
    """The first content of a new cloud. `passwords` by user: `admin`, `demo`, and the services' accounts.

    `endpoints`: service type → URL, of all interfaces.
    """

    passwords: Mapping[str, str]
    endpoints: Mapping[str, str]
    region: str = "RegionOne"
    service_users: tuple[str, ...] = ("nova", "placement", "glance", "neutron", "cinder", "manila", "barbican")
    names: Mapping[str, str] = field(
        default_factory=lambda: {
            "identity": "keystone",
            "compute": "nova",
            "image": "glance",
            "network": "neutron",
            "placement": "placement",
            "volumev3": "cinderv3",
            "block-storage": "cinder",
            "sharev2": "manilav2",
            "shared-file-system": "manila",
            "key-manager": "barbican",
        }
    )


def make_identity(state_dir: Path, settings: IdentitySettings | None = None, clock: Clock = SYSTEM_CLOCK) -> Companion:
    """The service on the data of that directory. Start it with `start(port)`."""
    settings = settings or IdentitySettings()
    db = open_store(state_dir, "identity", store.metadata)
    signer = Signer(state_dir / "identity.key")
    routes = (
        *_Auth(db, signer, settings, clock).routes(),
        *Grants(db, settings.password_rounds, clock).routes(),
        *(route for noun in NOUNS for route in Records(noun, db, settings.password_rounds, clock).routes()),
        *(route for kind in (REGISTERED, LIMIT) for route in Limits(kind, db).routes()),
    )
    return Companion(
        CompanionApi(
            "identity", routes, _error, Local(db, signer, clock), close=db.dispose, token_seconds=0, by_role=False
        )
    )


def seed(state_dir: Path, wanted: Seed, settings: IdentitySettings | None = None) -> None:
    """Make sure that domain Default, the roles, the projects admin, service and demo, users and endpoints are there.

    Done again: records that are there stay, but passwords and URLs become those given.
    """
    rounds = (settings or IdentitySettings()).password_rounds
    db = open_store(state_dir, "identity", store.metadata)
    try:
        db.run(lambda tx: _seed(tx, wanted, rounds))
    finally:
        db.dispose()


def _seed(tx: Connection, wanted: Seed, rounds: int) -> None:
    if store.row(tx, store.domains, id="default") is None:
        store.add(tx, store.domains, {"id": "default", "name": "Default", "enabled": True, "description": ""})
    role_ids = {
        name: _there(tx, store.roles, {"name": name}, domain_id=None, description=None)
        for name in ("admin", "manager", "member", "reader", "service")
    }
    project_ids = {
        name: _there(
            tx, store.projects, {"name": name, "domain_id": "default"}, enabled=True, description="", is_domain=False
        )
        for name in ("admin", "service", "demo")
    }
    grants = {"admin": [("admin", "admin"), ("demo", "admin")], "demo": [("demo", "member")]}
    grants |= {name: [("service", "admin"), ("service", "service")] for name in wanted.service_users}
    for name, password in wanted.passwords.items():
        key = {"name": name, "domain_id": "default"}
        found = store.row(tx, store.users, **key)
        if found is None:
            hashed = store.hashed(password, rounds)
            user_id = _there(tx, store.users, key, enabled=True, password=hashed, valid_since=0.0)
        else:
            user_id = found["id"]
            if not store.matches(password, found["password"]):
                changed = store.users.update().where(store.users.c.id == user_id)
                tx.execute(changed.values(password=store.hashed(password, rounds)))
        for project, role in grants.get(name, ()):
            store.assign(tx, user_id, "project", project_ids[project], role_ids[role])
        if name == "admin":
            store.assign(tx, user_id, store.SYSTEM, store.ALL, role_ids["admin"])
            store.assign(tx, user_id, "domain", "default", role_ids["admin"])
    if store.row(tx, store.regions, id=wanted.region) is None:
        store.add(tx, store.regions, {"id": wanted.region, "description": "", "parent_region_id": None})
    for kind, url in wanted.endpoints.items():
        service_id = _there(tx, store.services, {"type": kind}, name=wanted.names.get(kind, kind), enabled=True)
        for interface in ("public", "internal", "admin"):
            key = {"service_id": service_id, "interface": interface, "region_id": wanted.region}
            endpoint_id = _there(tx, store.endpoints, key, url=url, enabled=True)
            tx.execute(store.endpoints.update().where(store.endpoints.c.id == endpoint_id).values(url=url))


def _there(tx: Connection, table: Table, key: dict[str, Any], **rest: object) -> str:
    """The id of the record with that key, which is made when there is none."""
    found = store.row(tx, table, **key)
    if found is not None:
        return str(found["id"])
    made = store.new_id()
    store.add(tx, table, {"id": made, **key, **rest})
    return made


class Local:
    """The service's own users, for its own requests."""

    challenge = 'Keystone uri=""'

    def __init__(self, db: Database, signer: Signer, clock: Clock) -> None:
        self._db, self._signer, self._clock = db, signer, clock

    def authenticate(self, token: str, service_token: str | None) -> Identity:
        found = self._signer.token(token)
        with self._db.connect() as tx:
            tokens.check(tx, found, self._clock.now().timestamp())
            shown: dict[str, Any] = tokens.body(tx, found, catalog=False)
        user = shown["user"]
        return Identity(
            user_id=user["id"],
            user_name=user["name"],
            user_domain_id=user["domain"]["id"],
            project_id=(shown.get("project") or {}).get("id", ""),
            roles=tuple(role["name"] for role in shown.get("roles", ())),
            system_scope="all" if "system" in shown else "",
        )


class _Auth:
    """Version documents and everything under /v3/auth."""

    def __init__(self, db: Database, signer: Signer, settings: IdentitySettings, clock: Clock) -> None:
        self._db, self._signer, self._settings, self._clock = db, signer, settings, clock
        self._passwords = Passwords()

    def routes(self) -> tuple[CompanionRoute, ...]:
        return (
            CompanionRoute("GET", "/", self.choices, open=True),
            CompanionRoute("GET", "/v3", self.version, open=True),
            CompanionRoute("POST", "/v3/auth/tokens", self.issue, open=True, body=schemas.LOG_IN),
            CompanionRoute("GET", "/v3/auth/tokens", self.validate),
            CompanionRoute("DELETE", "/v3/auth/tokens", self.revoke),
            CompanionRoute("GET", "/v3/auth/catalog", self.catalog),
            CompanionRoute("GET", "/v3/auth/projects", self.projects),
            CompanionRoute("GET", "/v3/auth/domains", self.domains),
            CompanionRoute("GET", "/v3/auth/system", self.system),
        )

    def choices(self, req: CompanionRequest) -> Response:
        return Response(300, {"versions": {"values": [_version(req.origin)]}})

    def version(self, req: CompanionRequest) -> Response:
        return Response(200, {"version": _version(req.origin)})

    def issue(self, req: CompanionRequest) -> Response:
        with self._db.connect() as tx:
            token = log_in(
                tx, self._signer, self._passwords, req.body, now=self._now(), seconds=self._settings.token_seconds
            )
            body = tokens.body(tx, token, catalog="nocatalog" not in req.query)
        return Response(201, {"token": body}, {"X-Subject-Token": self._signer.text(token)})

    def validate(self, req: CompanionRequest) -> Response:
        subject = self._subject(req)
        with self._db.connect() as tx:
            try:
                tokens.check(tx, subject, self._now(), allow_expired=req.one("allow_expired") == "1")
                body = tokens.body(tx, subject, catalog="nocatalog" not in req.query)
            except Unauthenticated as error:
                raise _no_token() from error
        return Response(200, {"token": body}, {"X-Subject-Token": req.headers["X-Subject-Token"]})

    def revoke(self, req: CompanionRequest) -> Response:
        subject = self._subject(req)
        self._db.run(lambda tx: tokens.revoke(tx, subject, self._now()))
        return Response(204)

    def catalog(self, req: CompanionRequest) -> Response:
        token = self._signer.token(req.headers["X-Auth-Token"])
        with self._db.connect() as tx:
            return Response(200, {"catalog": tokens.catalogue(tx, token), "links": _links(req)})

    def projects(self, req: CompanionRequest) -> Response:
        return self._targets(req, "project")

    def domains(self, req: CompanionRequest) -> Response:
        return self._targets(req, "domain")

    def system(self, req: CompanionRequest) -> Response:
        with self._db.connect() as tx:
            roles = store.roles_on(tx, req.caller.user_id, store.SYSTEM, store.ALL)
        return Response(200, {"system": [{"all": True}] if roles else [], "links": _links(req)})

    def _now(self) -> float:
        return self._clock.now().timestamp()

    def _targets(self, req: CompanionRequest, kind: str) -> Response:
        noun = next(noun for noun in NOUNS if noun.name == kind)
        with self._db.connect() as tx:
            return Response(200, {noun.plural: targets(tx, noun, req.caller.user_id, req.origin), "links": _links(req)})

    def _subject(self, req: CompanionRequest) -> Token:
        """The token that is named: the caller's own, or any for administrators and services."""
        text = req.headers.get("X-Subject-Token")
        if not text:
            raise _no_token()
        try:
            subject = self._signer.token(text)
        except Unauthenticated as error:
            raise _no_token() from error
        if subject.user_id != req.caller.user_id and "service" not in req.caller.roles:
            req.demand_admin()
        return subject


def _no_token() -> PolycellError:
    return NotFound(reason="This token is not known, or holds no longer.")


def _links(req: CompanionRequest) -> dict[str, str | None]:
    return {"self": f"{req.origin}{req.path}", "previous": None, "next": None}


def _version(origin: str) -> dict[str, Any]:
    return {
        "id": "v3.14",
        "status": "stable",
        "updated": "2020-04-07T00:00:00Z",
        "links": [{"rel": "self", "href": f"{origin}/v3/"}],
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}],
    }


def _error(status: int, kind: str, message: str) -> dict[str, Any]:
    return {"error": {"code": status, "title": HTTPStatus(status).phrase, "message": message}}


__all__ = ["IdentitySettings", "Seed", "make_identity", "seed"]
