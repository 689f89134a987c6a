"""Keys from Barbican's API by castellan, which is loaded with the first key: it takes half a second and 10 MiB."""

from __future__ import annotations

import contextlib
import importlib.util
import threading
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, TypeVar

from oslo_utils.uuidutils import is_uuid_like

from cell_service.errors import KeyNotFound, PeerUnavailable
from cell_service.peers.keys import Keys
from cell_service.peers.session import NOAUTH_TOKEN, failure_reason, open_session
from cell_service.peers.settings import NO_ACCOUNT, BarbicanSettings, KeyManagerSettings

NAME = "key manager"
_SERVICE_TYPE = "key-manager"
T = TypeVar("T")


def open_keys(settings: BarbicanSettings, manager: KeyManagerSettings) -> Keys | None:
    """Keys of the service that `[barbican]` names; nothing is connected yet. None: the section has no account."""
    if not settings.account and settings.auth_type not in NO_ACCOUNT:
        return None
    return CastellanKeys(settings.in_common_words(), manager)


class CastellanKeys:
    """Uses the key manager with compute's own account. Thread-safe."""

    def __init__(self, settings: BarbicanSettings, manager: KeyManagerSettings) -> None:
        self._settings, self._options = settings, manager
        self._lock = threading.Lock()

    @cached_property
    def are_reachable(self) -> bool:
        return importlib.util.find_spec("castellan") is not None

    def get(self, key_id: str) -> bytes:
        return bytes(self._fetched(key_id).get_encoded())

    def create(self, algorithm: str, bits: int) -> str:
        return self._called(lambda manager, caller: str(manager.create_key(caller, algorithm=algorithm, length=bits)))

    def copy(self, key_id: str) -> str:
        found = self._fetched(key_id)
        return self._called(lambda manager, caller: str(manager.store(caller, found)))

    def delete(self, key_id: str) -> None:
        with contextlib.suppress(KeyNotFound):
            self._called(lambda manager, caller: manager.delete(caller, key_id), key_id)

    def _fetched(self, key_id: str) -> Any:
        if not is_uuid_like(key_id):
            raise KeyNotFound(key_id=key_id)
        return self._called(lambda manager, caller: manager.get(caller, key_id), key_id)

    def _called(self, work: Callable[[Any, Any], T], key_id: str = "") -> T:
        """The answer of castellan's key manager to work that is called with it, and with who calls it."""
        with self._lock:
            manager, caller = self._manager
        with _failures(key_id):
            return work(manager, caller)

    @cached_property
    def _manager(self) -> tuple[Any, Any]:
        try:
            from castellan import key_manager
            from oslo_config import cfg
            from oslo_context.context import RequestContext
        except ImportError as error:
            raise PeerUnavailable(service=NAME, reason="castellan is not installed here") from error
        settings, conf = self._settings, cfg.ConfigOpts()
        conf(args=[], project="castellan", default_config_files=[], default_config_dirs=[])
        conf.register_opts(key_manager.key_manager_opts, group="key_manager")
        conf.set_override("backend", self._options.backend, "key_manager")
        manager = key_manager.API(conf)
        for name in ("number_of_retries", "retry_delay"):
            conf.set_override(name, getattr(settings, name), "barbican")
        account = _account(settings)

        class Caller(RequestContext):  # type: ignore[misc]
            """castellan takes the account of its caller from this method, where there is one."""

            def get_auth_plugin(self) -> Any:
                return account

        return manager, Caller()


def _account(settings: BarbicanSettings) -> Any:
    """The service account as a plugin of keystoneauth, which has more to say to castellan's sessions: they know neither
    our certificates nor how long to wait."""
    from keystoneauth1 import plugin

    ours = open_session(settings)

    class Account(plugin.BaseAuthPlugin):  # type: ignore[misc]
        def get_headers(self, session: Any, **more: Any) -> dict[str, str]:
            session.timeout = settings.timeout
            token = NOAUTH_TOKEN if settings.auth_type in NO_ACCOUNT else ours.get_token()
            return {"X-Auth-Token": str(token)}

        def get_endpoint(self, session: Any, **more: Any) -> str | None:
            if settings.endpoint_override:
                return settings.endpoint_override
            found: str | None = ours.get_endpoint(
                service_type=settings.service_type or _SERVICE_TYPE, service_name=settings.service_name,
                interface=list(settings.valid_interfaces), region_name=settings.region_name,
            )  # fmt: skip
            return found

        def get_connection_params(self, session: Any, **more: Any) -> dict[str, Any]:
            return {"verify": ours.verify, "cert": ours.cert}

    return Account()


@contextlib.contextmanager
def _failures(key_id: str) -> Iterator[None]:
    from barbicanclient.exceptions import HTTPAuthError, HTTPClientError
    from castellan.common import exception

    try:
        yield
    except exception.ManagedObjectNotFoundError as error:
        raise KeyNotFound(key_id=key_id) from error
    except Exception as error:  # castellan lets errors of the libraries below it through
        cause = error.__context__ or error
        if isinstance(cause, HTTPAuthError) or (isinstance(cause, HTTPClientError) and cause.status_code == 403):
            raise PeerUnavailable(service=NAME, reason="it refuses our account") from error
        raise PeerUnavailable(service=NAME, reason=failure_reason(cause)) from error
