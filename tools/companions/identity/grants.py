"""Role assignments of users; a user's own projects, password and application credentials."""

from __future__ import annotations

from datetime import UTC, datetime
from secrets import token_urlsafe
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from cell_service.context import Clock
from cell_service.db.sql.engine import Database
from cell_service.errors import Conflict, Invalid, NotFound, Unauthenticated
from cell_service.http.response import Response
from tools.companions.identity import schemas, store
from tools.companions.identity.nouns import NOUNS, targets
from tools.companions.identity.tokens import demand_text, domain_of
from tools.companions.route import CompanionRequest, CompanionRoute

PROJECT = next(noun for noun in NOUNS if noun.name == "project")


class Grants:
    def __init__(self, db: Database, rounds: int, clock: Clock) -> None:
        self._db, self._rounds, self._clock = db, rounds, clock

    def routes(self) -> tuple[CompanionRoute, ...]:
        made = [
            CompanionRoute("GET", "/v3/role_assignments", self.assignments),
            CompanionRoute("GET", "/v3/role_inferences", self.inferences),
            CompanionRoute("GET", "/v3/groups", self.no_groups),
            CompanionRoute("GET", "/v3/users/{user}/projects", self.projects),
            CompanionRoute("GET", "/v3/users/{user}/groups", self.no_groups),
            CompanionRoute(
                "POST", "/v3/users/{user}/password", self.change_password, open=True, body=schemas.CHANGE_PASSWORD
            ),
        ]
        for prefix in ("/v3/projects/{project}", "/v3/domains/{domain}", "/v3/system"):
            made += [
                CompanionRoute("GET", f"{prefix}/users/{{user}}/roles", self.roles),
                CompanionRoute("PUT", f"{prefix}/users/{{user}}/roles/{{role}}", self.grant),
                CompanionRoute("GET", f"{prefix}/users/{{user}}/roles/{{role}}", self.check),
                CompanionRoute("DELETE", f"{prefix}/users/{{user}}/roles/{{role}}", self.revoke),
            ]
        many = "/v3/users/{user}/application_credentials"
        return (
            *made,
            CompanionRoute("GET", many, self.credentials),
            CompanionRoute("POST", many, self.add_credential, body=schemas.ADD_CREDENTIAL),
            CompanionRoute("GET", f"{many}/{{id}}", self.credential),
            CompanionRoute("DELETE", f"{many}/{{id}}", self.remove_credential),
        )

    def assignments(self, req: CompanionRequest) -> Response:
        """Filtered by user, role and scope; `effective` with the implied roles, `include_names` with names."""
        if req.one("user.id") != req.caller.user_id:
            req.demand_admin()
        with self._db.connect() as tx:
            rows = [row for row in store.rows(tx, store.assignments) if _wanted(req, row)]
            if _flag(req, "effective"):
                rows = _effective(tx, rows)
            rows = [row for row in rows if req.one("role.id", row["role_id"]) == row["role_id"]]
            names = _Names(tx) if _flag(req, "include_names") else None
            shown = [_assignment(row, names, req.origin) for row in rows]
        return Response(200, {"role_assignments": shown, "links": _links(req)})

    def inferences(self, req: CompanionRequest) -> Response:
        with self._db.connect() as tx:
            ids = {role["name"]: role["id"] for role in store.rows(tx, store.roles)}
        inferred = [
            {
                "prior_role": {"id": ids[name], "name": name},
                "implies": [{"id": ids[other], "name": other} for other in others if other in ids],
            }
            for name, others in store.IMPLIED.items()
            if name in ids
        ]
        return Response(200, {"role_inferences": inferred, "links": _links(req)})

    def no_groups(self, req: CompanionRequest) -> Response:
        return Response(200, {"groups": [], "links": _links(req)})

    def projects(self, req: CompanionRequest) -> Response:
        _self_or_admin(req)
        with self._db.connect() as tx:
            return Response(
                200, {"projects": targets(tx, PROJECT, req.params["user"], req.origin), "links": _links(req)}
            )

    def roles(self, req: CompanionRequest) -> Response:
        _self_or_admin(req)
        kind, target = _target(req)
        with self._db.connect() as tx:
            assigned = store.rows(tx, store.assignments, user_id=req.params["user"], target_type=kind, target_id=target)
            roles = [role for role in store.rows(tx, store.roles) if role["id"] in {row["role_id"] for row in assigned}]
        return Response(200, {"roles": roles, "links": _links(req)})

    def grant(self, req: CompanionRequest) -> Response:
        req.demand_admin()
        kind, target = _target(req)

        def work(tx: Connection) -> None:
            self._demand(tx, req)
            store.assign(tx, req.params["user"], kind, target, req.params["role"])

        self._db.run(work)
        return Response(204)

    def check(self, req: CompanionRequest) -> Response:
        _self_or_admin(req)
        kind, target = _target(req)
        key = {"user_id": req.params["user"], "target_type": kind, "target_id": target}
        with self._db.connect() as tx:
            if store.row(tx, store.assignments, role_id=req.params["role"], **key) is None:
                raise NotFound(reason="Could not find role assignment.")
        return Response(204)

    def revoke(self, req: CompanionRequest) -> Response:
        req.demand_admin()
        kind, target = _target(req)
        key = {"user_id": req.params["user"], "target_type": kind, "target_id": target}
        if not self._db.run(lambda tx: store.remove(tx, store.assignments, role_id=req.params["role"], **key)):
            raise NotFound(reason="Could not find role assignment.")
        return Response(204)

    def change_password(self, req: CompanionRequest) -> Response:
        """Change the user's password: this needs the old password and no token. All older tokens of the user end."""
        given = req.content("user")
        new = demand_text(given.get("password"), "password")
        old = demand_text(given.get("original_password"), "original_password")

        def work(tx: Connection) -> None:
            user = store.row(tx, store.users, id=req.params["user"], enabled=True)
            if user is None or not store.matches(old, user["password"]):
                raise Unauthenticated()
            changed, since = store.users.update().where(store.users.c.id == user["id"]), self._clock.now().timestamp()
            tx.execute(changed.values(password=store.hashed(new, self._rounds), valid_since=since))

        self._db.run(work)
        return Response(204)

    def credentials(self, req: CompanionRequest) -> Response:
        _self_or_admin(req)
        with self._db.connect() as tx:
            found = store.rows(tx, store.application_credentials, user_id=req.params["user"])
        name = req.one("name")
        shown = [_credential(row, req.origin) for row in found if name in (None, row["name"])]
        return Response(200, {"application_credentials": shown, "links": _links(req)})

    def credential(self, req: CompanionRequest) -> Response:
        _self_or_admin(req)
        with self._db.connect() as tx:
            found = self._credential(tx, req)
        return Response(200, {"application_credential": _credential(found, req.origin)})

    def add_credential(self, req: CompanionRequest) -> Response:
        """Make a credential for the project and with (at most) the roles of the token. The secret is shown this
        once."""
        if req.params["user"] != req.caller.user_id or not req.caller.project_id:
            raise Invalid(reason="Application credentials are made for oneself, with a token for a project.")
        given = req.content("application_credential")
        secret = given.get("secret") or token_urlsafe(48)
        requested = given.get("roles")

        def work(tx: Connection) -> dict[str, Any]:
            assigned = store.roles_on(tx, req.caller.user_id, "project", req.caller.project_id)
            assigned = [role for role in assigned if role["name"] in req.caller.roles]
            if requested:
                wanted = {role.get("id") or role.get("name") for role in requested if isinstance(role, dict)}
                assigned = [role for role in assigned if wanted & {role["id"], role["name"]}]
                if len(assigned) < len(wanted):
                    raise Invalid(reason="A role was asked that the user does not have on the project.")
            row = {
                "id": store.new_id(),
                "name": demand_text(given.get("name"), "name"),
                "user_id": req.caller.user_id,
                "project_id": req.caller.project_id,
                "secret": store.hashed(str(secret), self._rounds),
                "description": given.get("description"),
                "roles": assigned,
                "unrestricted": bool(given.get("unrestricted", False)),
                "expires_at": _seconds(given.get("expires_at")),
            }
            store.add(tx, store.application_credentials, row)
            return row

        try:
            made = self._db.run(work)
        except IntegrityError as error:
            raise Conflict(reason="There is an application credential of this name.") from error
        return Response(201, {"application_credential": _credential(made, req.origin) | {"secret": secret}})

    def remove_credential(self, req: CompanionRequest) -> Response:
        _self_or_admin(req)

        def work(tx: Connection) -> None:
            store.remove(tx, store.application_credentials, id=self._credential(tx, req)["id"])

        self._db.run(work)
        return Response(204)

    def _credential(self, tx: Connection, req: CompanionRequest) -> dict[str, Any]:
        found = store.row(tx, store.application_credentials, id=req.params["id"], user_id=req.params["user"])
        if found is None:
            raise NotFound(reason=f"Could not find Application Credential: {req.params['id']}.")
        return found

    def _demand(self, tx: Connection, req: CompanionRequest) -> None:
        for name, table in (("user", store.users), ("role", store.roles), ("project", store.projects),
                            ("domain", store.domains)):  # fmt: skip
            if name in req.params and store.row(tx, table, id=req.params[name]) is None:
                raise NotFound(reason=f"Could not find {name}: {req.params[name]}.")


class _Names:
    """Names of the things in assignments."""

    def __init__(self, tx: Connection) -> None:
        self.users = {row["id"]: row for row in store.rows(tx, store.users)}
        self.roles = {row["id"]: row for row in store.rows(tx, store.roles)}
        self.projects = {row["id"]: row for row in store.rows(tx, store.projects)}
        self.domains = {row["id"]: domain_of(tx, row["id"]) for row in store.rows(tx, store.domains)}

    def of(self, records: dict[str, dict[str, Any]], record_id: str) -> dict[str, Any]:
        record = records.get(record_id, {})
        named: dict[str, Any] = {"id": record_id, "name": record.get("name", record_id)}
        if record.get("domain_id"):
            named["domain"] = self.domains.get(record["domain_id"], {"id": record["domain_id"]})
        return named


def _assignment(row: dict[str, Any], names: _Names | None, origin: str) -> dict[str, Any]:
    kind, target = row["target_type"], row["target_id"]
    if kind == store.SYSTEM:
        scope: dict[str, Any] = {"system": {"all": True}}
        place = "system"
    else:
        named = names.of(getattr(names, f"{kind}s"), target) if names else {"id": target}
        scope = {kind: named}
        place = f"{kind}s/{target}"
    return {
        "user": names.of(names.users, row["user_id"]) if names else {"id": row["user_id"]},
        "role": names.of(names.roles, row["role_id"]) if names else {"id": row["role_id"]},
        "scope": scope,
        "links": {"assignment": f"{origin}/v3/{place}/users/{row['user_id']}/roles/{row['role_id']}"},
    }


def _effective(tx: Connection, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    places = dict.fromkeys((row["user_id"], row["target_type"], row["target_id"]) for row in rows)
    return [
        {"user_id": user, "target_type": kind, "target_id": target, "role_id": role["id"]}
        for user, kind, target in places
        for role in store.roles_on(tx, user, kind, target)
    ]


def _wanted(req: CompanionRequest, row: dict[str, Any]) -> bool:
    if req.one("user.id", row["user_id"]) != row["user_id"] or "group.id" in req.query:
        return False
    for kind in ("project", "domain"):
        requested = req.one(f"scope.{kind}.id")
        if requested is not None and (row["target_type"], row["target_id"]) != (kind, requested):
            return False
    return "scope.system" not in req.query or row["target_type"] == store.SYSTEM


def _flag(req: CompanionRequest, name: str) -> bool:
    """Whether the parameter is given, without a value or with any but 0."""
    return name in req.query and (req.one(name) or "").lower() not in ("0", "false")


def _target(req: CompanionRequest) -> tuple[str, str]:
    for kind in ("project", "domain"):
        if kind in req.params:
            return kind, req.params[kind]
    return store.SYSTEM, store.ALL


def _self_or_admin(req: CompanionRequest) -> None:
    if req.params["user"] != req.caller.user_id:
        req.demand_admin()


def _credential(row: dict[str, Any], origin: str) -> dict[str, Any]:
    expires = row.get("expires_at")
    shown = {name: value for name, value in row.items() if name not in ("secret", "user_id")}
    link = f"{origin}/v3/users/{row['user_id']}/application_credentials/{row['id']}"
    return shown | {"expires_at": store.moment(expires) if expires else None, "links": {"self": link}}


def _seconds(text: Any) -> float | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise Invalid(reason="expires_at must be a time in ISO 8601.") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _links(req: CompanionRequest) -> dict[str, str | None]:
    return {"self": f"{req.origin}{req.path}", "previous": None, "next": None}
