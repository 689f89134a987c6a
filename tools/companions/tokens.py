"""An Authenticator whose answers are cached for some seconds; for several threads."""

from __future__ import annotations

from api_cell.edge.auth import Authenticator, Identity, TokenCache
from cell_service.context import SYSTEM_CLOCK
from cell_service.errors import Unauthenticated


class CachingAuthenticator:
    """Calls an Authenticator for each token once in `seconds`. Raises what it raises."""

    def __init__(self, authenticator: Authenticator, seconds: float) -> None:
        self._authenticator = authenticator
        self._tokens = TokenCache(seconds, SYSTEM_CLOCK)

    def authenticate(self, token: str, service_token: str | None) -> Identity:
        key = TokenCache.key(token, service_token)
        found = self._tokens.find(key)
        if found is not None:
            return found
        try:
            identity = self._authenticator.authenticate(token, service_token)
        except Unauthenticated:
            self._tokens.put(key, None)
            raise
        self._tokens.put(key, identity)
        return identity
