"""Logging in: methods, scopes, and the token that comes of them (POST /v3/auth/tokens)."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from cell_service.errors import Invalid, Unauthenticated
from tools.companions.identity import store, tokens
from tools.companions.identity.tokens import Signer, Token, demand_text

MOST_REMEMBERED = 1000


class Passwords:
    """Checks passwords; one that was right is remembered (as a hash), for bcrypt is slow on purpose."""

    def __init__(self) -> None:
        self._right: set[bytes] = set()
        self._lock = threading.Lock()

    def check(self, password: str, stored: str | None) -> bool:
        if stored is None:
            return False
        key = hashlib.sha256(f"{stored}\0{password}".encode("utf-8", "surrogatepass")).digest()
        if key in self._right:
            return True
        if not store.matches(password, stored):
            return False
        with self._lock:
            if len(self._right) >= MOST_REMEMBERED:
                self._right.clear()
            self._right.add(key)
        return True


def log_in(tx: Connection, signer: Signer, passwords: Passwords, body: object, *, now: float, seconds: float) -> Token:
    """The token that such a request is given at `now`, valid for `seconds`. Raises Invalid, Unauthenticated."""
    auth = body.get("auth") if isinstance(body, dict) else None
    identity = auth.get("identity") if isinstance(auth, dict) else None
    methods = identity.get("methods") if isinstance(identity, dict) else None
    if not isinstance(auth, dict) or not isinstance(identity, dict) or not isinstance(methods, list) or not methods:
        raise Invalid(reason="Expecting to find auth.identity.methods in request.")
    made = Token("", (), tokens.new_audit_id(), issued=now, expires=now + seconds)
    for method in methods:
        given = identity.get(method)
        if not isinstance(given, dict):
            raise Invalid(reason=f"Expecting to find {method} in auth.identity.")
        if method == "password":
            found = replace(made, user_id=_by_password(tx, passwords, given), methods=("password",))
        elif method == "token":
            found = _by_token(tx, signer, made, given)
        elif method == "application_credential":
            found = _by_application_credential(tx, passwords, made, given)
        else:
            raise Unauthenticated()
        if made.user_id not in ("", found.user_id):
            raise Unauthenticated()
        made = found
    scoped = made if made.application_credential_id else _scoped(tx, made, auth.get("scope"))
    tokens.check(tx, scoped, now)
    return scoped


def _by_password(tx: Connection, passwords: Passwords, given: dict[str, Any]) -> str:
    found = _user(tx, given.get("user"))
    password = found[1].get("password")
    if not isinstance(password, str):
        raise Invalid(reason="Expecting to find a password.")
    user = found[0]
    if user is None or not user["enabled"] or not passwords.check(password, user["password"]):
        raise Unauthenticated()
    return str(user["id"])


def _user(tx: Connection, given: object) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """The user that is named, and the password. Raises Invalid."""
    if not isinstance(given, dict):
        raise Invalid(reason="Expecting to find a user.")
    if "id" in given:
        return store.row(tx, store.users, id=demand_text(given["id"], "user.id")), given
    name = demand_text(given.get("name"), "user.name")
    domain_id = _domain(tx, given.get("domain"))
    return store.row(tx, store.users, name=name, domain_id=domain_id), given


def _domain(tx: Connection, given: object) -> str:
    """The id of the domain that is named, "" when there is none. Raises Invalid."""
    if not isinstance(given, dict):
        raise Invalid(reason="Expecting to find a domain with a name or an id.")
    if "id" in given:
        return demand_text(given["id"], "domain.id")
    found = store.row(tx, store.domains, name=demand_text(given.get("name"), "domain.name"))
    return str(found["id"]) if found else ""


def _by_token(tx: Connection, signer: Signer, made: Token, given: dict[str, Any]) -> Token:
    """A new scope never lasts longer than the token it was requested with."""
    old = signer.token(demand_text(given.get("id"), "token.id"))
    tokens.check(tx, old, made.issued)
    if old.application_credential_id:
        raise Unauthenticated()
    methods = tuple(dict.fromkeys((*old.methods, "token")))
    return replace(made, user_id=old.user_id, methods=methods, expires=min(made.expires, old.expires))


def _by_application_credential(tx: Connection, passwords: Passwords, made: Token, given: dict[str, Any]) -> Token:
    secret = demand_text(given.get("secret"), "application_credential.secret")
    if "id" in given:
        found = store.row(tx, store.application_credentials, id=demand_text(given["id"], "application_credential.id"))
    else:
        name = demand_text(given.get("name"), "application_credential.name")
        user, _words = _user(tx, given.get("user"))
        found = store.row(tx, store.application_credentials, user_id=user["id"], name=name) if user else None
    if found is None or not passwords.check(secret, found["secret"]):
        raise Unauthenticated()
    until = found.get("expires_at")
    expires = min(made.expires, until) if until else made.expires
    if expires <= made.issued:
        raise Unauthenticated()
    return replace(
        made,
        user_id=found["user_id"],
        methods=("application_credential",),
        target_type="project",
        target_id=found["project_id"],
        application_credential_id=found["id"],
        expires=expires,
    )


def _scoped(tx: Connection, made: Token, scope: object) -> Token:
    """The token for the requested scope, or for the user's own project. Raises Unauthenticated without a role there."""
    if scope is None:
        user = store.row(tx, store.users, id=made.user_id)
        own = user.get("default_project_id") if user else None
        if own and store.roles_on(tx, made.user_id, "project", own):
            return replace(made, target_type="project", target_id=own)
        return made
    if scope == "unscoped" or (isinstance(scope, dict) and "unscoped" in scope):
        return made
    if not isinstance(scope, dict) or len(scope) != 1:
        raise Invalid(reason="Expecting exactly one scope.")
    if "project" in scope:
        target = ("project", _project(tx, scope["project"]))
    elif "domain" in scope:
        target = ("domain", _domain(tx, scope["domain"]))
    elif scope.get("system") == {"all": True}:
        target = (store.SYSTEM, store.ALL)
    else:
        raise Invalid(reason="Expecting the scope to be a project, a domain or the system.")
    if not target[1] or not store.roles_on(tx, made.user_id, *target):
        raise Unauthenticated()
    return replace(made, target_type=target[0], target_id=target[1])


def _project(tx: Connection, given: object) -> str:
    if not isinstance(given, dict):
        raise Invalid(reason="Expecting to find a project.")
    if "id" in given:
        found = store.row(tx, store.projects, id=demand_text(given["id"], "project.id"))
    else:
        name = demand_text(given.get("name"), "project.name")
        found = store.row(tx, store.projects, name=name, domain_id=_domain(tx, given.get("domain")))
    return str(found["id"]) if found and found["enabled"] else ""
