"""Tokens of the identity service (Identity API v3), validated with an account of our own."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

import keystoneauth1.exceptions

from api_cell.edge.auth import Identity
from cell_service.errors import PeerUnavailable, Unauthenticated
from cell_service.peers.session import open_session
from cell_service.peers.settings import KeystoneAuthtoken

log = logging.getLogger(__name__)

VALIDATION_SECONDS = 10.0


class Keystone:
    """Validates tokens at `[keystone_authtoken] auth_url`. Thread-safe."""

    def __init__(self, settings: KeystoneAuthtoken, session: Any = None) -> None:
        base = settings.auth_url.rstrip("/").removesuffix("/v3")
        uri = settings.www_authenticate_uri or settings.auth_url
        self.challenge = f'Keystone uri="{uri}"'
        self._tokens_url = f"{base}/v3/auth/tokens"
        self._timeout = min(settings.timeout, VALIDATION_SECONDS)
        self._service_roles = frozenset(settings.service_token_roles)
        self._session = session or open_session(settings, user_agent="polycell-api")

    def authenticate(self, token: str, service_token: str | None) -> Identity:
        """The bearer of a token. A valid token of a service lets the user's have expired meanwhile.

        Raises Unauthenticated (invalid, revoked or expired), PeerUnavailable.
        """
        service_roles: tuple[str, ...] = ()
        if service_token:
            service_roles = _identity(self._validated(service_token)).roles
        vouched = bool(self._service_roles.intersection(service_roles))
        return _identity(self._validated(token, allow_expired=vouched), service_roles, vouched)

    def _validated(self, token: str, *, allow_expired: bool = False) -> dict[str, Any]:
        if not token.isascii() or not token.isprintable():
            raise Unauthenticated()
        query = {"nocatalog": "1", **({"allow_expired": "1"} if allow_expired else {})}
        try:
            answer = self._session.get(
                self._tokens_url,
                params=query,
                headers={"X-Subject-Token": token},
                raise_exc=False,
                timeout=self._timeout,
            )
        except keystoneauth1.exceptions.ClientException as error:
            log.error("tokens cannot be validated reason=%s", error)
            raise PeerUnavailable(service="identity", reason="tokens cannot be validated") from error
        if answer.status_code == 404:
            raise Unauthenticated()
        if answer.status_code != 200:
            log.error("tokens cannot be validated status=%s", answer.status_code)
            raise PeerUnavailable(service="identity", reason=f"it answered {answer.status_code}")
        try:
            found = answer.json()["token"]
        except (ValueError, KeyError, TypeError) as error:
            raise PeerUnavailable(service="identity", reason="it answered something else than a token") from error
        if not isinstance(found, dict):
            raise PeerUnavailable(service="identity", reason="it answered something else than a token")
        return found


def _identity(token: dict[str, Any], service_roles: tuple[str, ...] = (), vouched: bool = False) -> Identity:
    user, project = token.get("user") or {}, token.get("project") or {}
    expires = token.get("expires_at")
    return Identity(
        user_id=user.get("id", ""),
        user_name=user.get("name", ""),
        user_domain_id=(user.get("domain") or {}).get("id", ""),
        project_id=project.get("id", ""),
        project_name=project.get("name", ""),
        project_domain_id=(project.get("domain") or {}).get("id", ""),
        roles=tuple(role["name"] for role in token.get("roles") or ()),
        domain_scope=(token.get("domain") or {}).get("id", ""),
        system_scope="all" if (token.get("system") or {}).get("all") else "",
        service_roles=service_roles,
        expires_at=datetime.fromisoformat(expires) if expires else None,
        expired_is_fine=vouched,
    )
