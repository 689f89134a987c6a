"""One other service over HTTP, with an account of compute's own: its endpoint, tokens, time-outs and failures."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any
from urllib.parse import urlsplit

import keystoneauth1.adapter
import keystoneauth1.exceptions
import keystoneauth1.loading
import keystoneauth1.session
import keystoneauth1.token_endpoint
import requests
import requests.adapters
import urllib3.exceptions

from cell_service.context import Context
from cell_service.errors import Invalid, PeerUnavailable
from cell_service.peers.settings import NO_ACCOUNT, PeerSettings

CONNECT_SECONDS = 2.0
IDENTITY_SECONDS = 5.0
CONNECTIONS = 32
NOAUTH_TOKEN = "admin:service"
_SERVICE_TYPES = {
    "image": "image",
    "network": "network",
    "placement": "placement",
    "volume": "block-storage",
    "share": "shared-file-system",
    "compute": "compute",
    "identity": "identity",
    "key manager": "key-manager",
}
_FAILURES = (
    keystoneauth1.exceptions.ClientException,
    requests.exceptions.RequestException,
    urllib3.exceptions.HTTPError,
)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer below 500 that is no refusal of the account. `json` is None when there was no JSON."""

    status: int
    json: Any
    headers: Mapping[str, str]

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


class Peer:
    """A service. Connects at first use; thread-safe.

    The endpoint is `endpoint_override`, or the service catalogue's; `version` ("/v2") is added unless it is there.
    `auth_type` none or noauth: a fixed token of an administrator, as `auth_strategy = noauth2` takes it.
    """

    def __init__(
        self, name: str, settings: PeerSettings, version: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self._settings = settings
        self._version = version
        self._headers = dict(headers or {})
        self._adapter = keystoneauth1.adapter.Adapter(
            open_session(settings),
            service_type=settings.service_type or _SERVICE_TYPES[name],
            service_name=settings.service_name,
            interface=list(settings.valid_interfaces),
            region_name=settings.region_name,
            endpoint_override=settings.endpoint_override,
            connect_retry_delay=0.05,
        )

    def ask(
        self,
        ctx: Context,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        data: IO[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send one request, with JSON or with a file's content (`data`). A GET is sent once more when there was no
        connection. Raises PeerUnavailable."""
        with self._failures(ctx):
            raw = self._send(ctx, method, path, query=query, body=body, data=data, headers=headers)
            try:
                content = raw.json() if raw.content else None
            except ValueError:
                content = None
        if content is None and raw.status_code == 200 and method == "GET":
            raise PeerUnavailable(service=self.name, reason="it answered something else than JSON")
        return Reply(raw.status_code, content, raw.headers)

    def ask_as_service(self, ctx: Context, method: str, path: str) -> Reply:
        """As `ask`, with the account's token as service token too, where a service allows a request to services only.
        Raises PeerUnavailable."""
        with self._failures(ctx):
            ours = self._adapter.get_token()
        return self.ask(ctx, method, path, headers={"X-Service-Token": ours})

    def ask_as(self, ctx: Context, token: str, method: str, path: str, *, query: Mapping[str, Any]) -> Reply:
        """As `ask`, in the name of a token's bearer, with the account's service token, so that a token which has
        expired since the work began is accepted. Raises PeerUnavailable."""
        with self._failures(ctx):
            ours = self._adapter.get_token()
        return self.ask(ctx, method, path, query=query, headers={"X-Auth-Token": token, "X-Service-Token": ours})

    @contextlib.contextmanager
    def stream(self, ctx: Context, path: str, *, accept: str = "*/*") -> Iterator[tuple[int, Iterator[bytes]]]:
        """GET the path; return the status, and the content in chunks as it arrives; the deadline is for all of it.
        Raises PeerUnavailable, also in the middle."""
        with self._failures(ctx):
            raw = self._send(ctx, "GET", path, headers={"Accept": accept, "Accept-Encoding": "identity"}, stream=True)
            with contextlib.closing(raw):
                yield raw.status_code, self._chunks(ctx, raw)

    def _chunks(self, ctx: Context, raw: requests.Response) -> Iterator[bytes]:
        for chunk in raw.iter_content(1 << 20):
            self._left(ctx)
            yield chunk

    def _send(
        self,
        ctx: Context,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        data: IO[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        stream: bool = False,
    ) -> requests.Response:
        url = self._base() + path
        left = self._left(ctx)
        raw: requests.Response = self._adapter.request(
            url,
            method,
            params=query,
            json=body,
            **({} if data is None else {"data": data}),
            headers={
                "Accept": "application/json",
                "X-OpenStack-Request-ID": ctx.global_request_id or ctx.request_id,
                **self._headers,
                **(headers or {}),
            },
            authenticated="X-Auth-Token" not in (headers or {}),
            raise_exc=False,
            redirect=False,
            stream=stream,
            timeout=min(left, self._settings.timeout),
            connect_retries=1 if method == "GET" else 0,
        )
        if raw.status_code >= 500 or raw.status_code in (401, 429):
            raw.close()
            raise PeerUnavailable(service=self.name, reason=f"it answered {raw.status_code}")
        return raw

    def _base(self) -> str:
        found = self._adapter.get_endpoint()
        if not found:
            raise PeerUnavailable(service=self.name, reason="the service catalogue has no endpoint of it")
        return str(found).rstrip("/").removesuffix(self._version) + self._version

    def _left(self, ctx: Context) -> float:
        left = ctx.deadline.remaining()
        if left <= 0:
            raise PeerUnavailable(service=self.name, reason="no time is left")
        return left

    @contextlib.contextmanager
    def _failures(self, ctx: Context) -> Iterator[None]:
        try:
            yield
        except _FAILURES as error:
            raise PeerUnavailable(service=self.name, reason=failure_reason(error)) from error


class _Bounded(requests.adapters.HTTPAdapter):
    """Connects within CONNECT_SECONDS, whatever the time-out of the whole request."""

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        timeout = options.get("timeout")
        if isinstance(timeout, (int, float)):
            options["timeout"] = (min(CONNECT_SECONDS, timeout), timeout)
        return super().send(request, *args, **options)


class _Connections(requests.Session):
    """Looks up once for each service what the environment says of proxies and authorities: that takes longer than to
    write the request, and the environment stays as it is."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[tuple[Any, ...], dict[str, Any]] = {}

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        if proxies:
            return super().merge_environment_settings(url, proxies, stream, verify, cert)
        parts = urlsplit(url)
        of = (parts.scheme, parts.netloc, stream, verify, cert)
        if of not in self._known:
            self._known[of] = super().merge_environment_settings(url, proxies, stream, verify, cert)
        return {**self._known[of], "proxies": dict(self._known[of]["proxies"])}


def open_session(settings: PeerSettings, *, user_agent: str = "polycell") -> Any:
    """A keystoneauth session with the account and the certificates of the section. Raises Invalid."""
    connections = _Connections()
    for scheme in ("http://", "https://"):
        connections.mount(scheme, _Bounded(pool_maxsize=CONNECTIONS))
    return keystoneauth1.session.Session(
        auth=account(settings),
        session=connections,
        verify=False if settings.insecure else settings.cafile or True,
        cert=(settings.certfile, settings.keyfile) if settings.certfile and settings.keyfile else settings.certfile,
        timeout=min(settings.timeout, IDENTITY_SECONDS),
        user_agent=user_agent,
    )


def account(settings: PeerSettings) -> Any:
    """The plugin that gets the account's tokens. Raises Invalid when its options don't suffice."""
    if settings.auth_type in NO_ACCOUNT:
        return keystoneauth1.token_endpoint.Token(settings.endpoint_override, NOAUTH_TOKEN)
    try:
        loader = keystoneauth1.loading.get_plugin_loader(settings.auth_type)
        return loader.load_from_options(**settings.plugin_options)
    except keystoneauth1.exceptions.ClientException as error:
        raise Invalid(reason=f"[{settings.GROUP}] {error}") from error


def failure_reason(error: BaseException) -> str:
    """The reason of a failure, in few words and without internal addresses."""
    if isinstance(error, (keystoneauth1.exceptions.SSLError, requests.exceptions.SSLError)):
        return "the certificates of both sides do not fit"
    if isinstance(error, (keystoneauth1.exceptions.ConnectTimeout, requests.exceptions.Timeout)):
        return "no answer in time"
    if isinstance(error, (keystoneauth1.exceptions.ConnectFailure, requests.exceptions.ConnectionError)):
        return "no connection"
    if isinstance(error, keystoneauth1.exceptions.Unauthorized):
        return "the identity service refuses our account"
    if isinstance(error, keystoneauth1.exceptions.EndpointNotFound):
        return "the service catalogue has no endpoint of it"
    return type(error).__name__
