"""The caller of a request: the seam to the identity service, noauth2, and the cache of validated tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from cell_service.context import Clock
from cell_service.errors import Unauthenticated
from cell_service.ttl_cache import TtlCache

MAX_TOKENS = 10_000


@dataclass(frozen=True, slots=True)
class Identity:
    """The bearer of a valid token. `expires_at` None: never."""

    user_id: str
    project_id: str = ""
    roles: tuple[str, ...] = ()
    user_name: str = ""
    user_domain_id: str = ""
    project_name: str = ""
    project_domain_id: str = ""
    system_scope: str = ""
    domain_scope: str = ""
    """The domain of a token that is for a whole domain, and for no project."""
    service_roles: tuple[str, ...] = ()
    expires_at: datetime | None = None
    expired_is_fine: bool = False
    """A service vouches for the user: the work began when the token was still valid."""

    def is_valid(self, now: datetime) -> bool:
        """Whether the token may still be used."""
        return self.expires_at is None or self.expired_is_fine or now < self.expires_at


class Authenticator(Protocol):
    """Finds out who the caller is. `challenge` is the WWW-Authenticate header of a 401."""

    challenge: str

    def authenticate(self, token: str, service_token: str | None) -> Identity:
        """May block. Raises Unauthenticated, PeerUnavailable."""


class NoAuth:
    """`[api] auth_strategy = noauth2`: the token is `user:project`, and the user `admin` is an administrator."""

    challenge = 'Keystone uri=""'

    def authenticate(self, token: str, service_token: str | None) -> Identity:
        user_id, _, project_id = token.partition(":")
        if not user_id:
            raise Unauthenticated()
        project_id = project_id or user_id
        roles = ("reader", "member", *(("manager", "admin") if user_id == "admin" else ()))
        service_roles = ("service",) if service_token else ()
        return Identity(
            user_id,
            project_id,
            roles,
            user_name=user_id,
            project_name=project_id,
            user_domain_id="default",
            project_domain_id="default",
            service_roles=service_roles,
        )


def credentials(headers: Mapping[str, str]) -> tuple[str, str | None]:
    """The token and service token of a request. Raises Unauthenticated when there is no token."""
    token = headers.get("X-Auth-Token") or headers.get("X-Storage-Token")
    if not token:
        raise Unauthenticated()
    return token, headers.get("X-Service-Token")


class TokenCache:
    """Answers of an Authenticator, refusals among them, for some seconds by a hash of the token. Thread-safe."""

    def __init__(self, seconds: float, clock: Clock) -> None:
        self._clock = clock
        self._answers: TtlCache[bytes, tuple[Identity | None]] = TtlCache(clock, seconds, MAX_TOKENS)

    @staticmethod
    def key(token: str, service_token: str | None) -> bytes:
        return hashlib.sha256(f"{token}\0{service_token or ''}".encode("utf-8", "surrogatepass")).digest()

    def find(self, key: bytes) -> Identity | None:
        """The identity known for the key, None: to be validated. Raises Unauthenticated for a known refusal."""
        answer = self._answers.get(key)
        if answer is None:
            return None
        identity = answer[0]
        if identity is None or not identity.is_valid(self._clock.now()):
            raise Unauthenticated()
        return identity

    def put(self, key: bytes, identity: Identity | None) -> None:
        """Remember an answer; None for a refusal."""
        self._answers.put(key, (identity,))
