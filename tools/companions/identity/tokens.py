"""Tokens of the identity companion: signed text with the user, the scope and the expiry.

Nothing is written to issue one. What is read when one is used: the user and the target, the roles as they
are by then, and whether it has been revoked.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from sqlalchemy import Connection, delete, insert

from cell_service.errors import Invalid, Unauthenticated
from tools.companions.identity import store


@dataclass(frozen=True, slots=True)
class Token:
    """`target_type` project, domain, system, or empty for an unscoped token. Times in seconds since 1970."""

    user_id: str
    methods: tuple[str, ...]
    audit_id: str
    issued: float
    expires: float
    target_type: str = ""
    target_id: str = ""
    application_credential_id: str = ""


class Signer:
    """Makes tokens text and back, with a key of its own in a file that only its owner reads."""

    def __init__(self, key_file: Path) -> None:
        try:
            descriptor = os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            pass
        else:
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(32))
        self._key = key_file.read_bytes()

    def text(self, token: Token) -> str:
        plain = json.dumps(asdict(token), separators=(",", ":")).encode()
        return f"{_encoded(plain)}.{_encoded(self._signature(plain))}"

    def token(self, text: str) -> Token:
        """Raises Unauthenticated for anything that we did not sign. The token may have expired."""
        try:
            plain, signature = (base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in text.split("."))
        except ValueError as error:
            raise Unauthenticated() from error
        if not hmac.compare_digest(signature, self._signature(plain)):
            raise Unauthenticated()
        fields = json.loads(plain)
        return Token(**(fields | {"methods": tuple(fields["methods"])}))

    def _signature(self, plain: bytes) -> bytes:
        return hmac.digest(self._key, plain, hashlib.sha256)


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def new_audit_id() -> str:
    return secrets.token_urlsafe(16)


def check(tx: Connection, token: Token, now: float, *, allow_expired: bool = False) -> None:
    """Raises Unauthenticated unless the token is valid at `now`."""
    if token.expires <= now and not allow_expired:
        raise Unauthenticated()
    user = store.row(tx, store.users, id=token.user_id)
    if user is None or not user["enabled"] or (user["valid_since"] or 0) > token.issued:
        raise Unauthenticated()
    if store.row(tx, store.domains, id=user["domain_id"], enabled=True) is None:
        raise Unauthenticated()
    if token.application_credential_id and not store.row(
        tx, store.application_credentials, id=token.application_credential_id
    ):
        raise Unauthenticated()
    if tx.execute(store.revoked.select().where(store.revoked.c.audit_id == token.audit_id)).first() is not None:
        raise Unauthenticated()


def revoke(tx: Connection, token: Token, now: float) -> None:
    """Revoke the token. Revocations that ended a day before `now` are forgotten."""
    tx.execute(delete(store.revoked).where(store.revoked.c.expires < now - 86400))
    row = {"audit_id": token.audit_id, "expires": token.expires}
    tx.execute(insert(store.revoked).prefix_with("OR IGNORE").values(**row))


def body(tx: Connection, token: Token, *, catalog: bool) -> dict[str, object]:
    """The token's content, as the Identity API shows it. Raises Unauthenticated when nothing is left of it."""
    user = store.row(tx, store.users, id=token.user_id)
    if user is None:
        raise Unauthenticated()
    shown: dict[str, object] = {
        "methods": list(token.methods),
        "user": {
            "id": user["id"],
            "name": user["name"],
            "domain": domain_of(tx, user["domain_id"]),
            "password_expires_at": None,
        },
        "audit_ids": [token.audit_id],
        "expires_at": store.moment(token.expires),
        "issued_at": store.moment(token.issued),
    }
    if not token.target_type:
        return shown
    roles = store.roles_on(tx, token.user_id, token.target_type, token.target_id)
    if token.application_credential_id:
        roles = _restricted(tx, token, roles)
    if not roles:
        raise Unauthenticated()
    shown["roles"] = roles
    if token.target_type == "project":
        project = store.row(tx, store.projects, id=token.target_id, enabled=True)
        if project is None:
            raise Unauthenticated()
        shown["project"] = {
            "id": project["id"],
            "name": project["name"],
            "domain": domain_of(tx, project["domain_id"]),
        }
        shown["is_domain"] = False
    elif token.target_type == "domain":
        if store.row(tx, store.domains, id=token.target_id, enabled=True) is None:
            raise Unauthenticated()
        shown["domain"] = domain_of(tx, token.target_id)
    else:
        shown["system"] = {"all": True}
    if catalog:
        shown["catalog"] = catalogue(tx, token)
    return shown


def _restricted(tx: Connection, token: Token, roles: list[dict[str, str]]) -> list[dict[str, str]]:
    credential = store.row(tx, store.application_credentials, id=token.application_credential_id)
    if credential is None:
        return []
    given = {role["name"] for role in credential["roles"]}
    given |= store.implied(given)
    return [role for role in roles if role["name"] in given]


def domain_of(tx: Connection, domain_id: str) -> dict[str, str]:
    domain = store.row(tx, store.domains, id=domain_id)
    return {"id": domain_id, "name": domain["name"] if domain else domain_id}


def catalogue(tx: Connection, token: Token) -> list[dict[str, object]]:
    """The enabled services with their endpoints, for the token's project."""
    places: dict[str, list[dict[str, object]]] = {}
    for endpoint in store.rows(tx, store.endpoints, enabled=True):
        places.setdefault(endpoint["service_id"], []).append(
            {
                "id": endpoint["id"],
                "interface": endpoint["interface"],
                "region": endpoint["region_id"],
                "region_id": endpoint["region_id"],
                "url": _filled(endpoint["url"], token),
            }
        )
    return [
        {"id": service["id"], "name": service["name"], "type": service["type"], "endpoints": places[service["id"]]}
        for service in store.rows(tx, store.services, enabled=True)
        if service["id"] in places
    ]


def _filled(url: str, token: Token) -> str:
    project_id = token.target_id if token.target_type == "project" else ""
    for name, value in (("project_id", project_id), ("tenant_id", project_id), ("user_id", token.user_id)):
        for form in (f"$({name})s", f"%({name})s"):
            url = url.replace(form, value)
    return url


def demand_text(value: object, what: str) -> str:
    """Raises Invalid unless it is text."""
    if not isinstance(value, str) or not value:
        raise Invalid(reason=f"{what} must be a string that is not empty.")
    return value
