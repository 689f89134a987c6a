"""The console proxy: a websocket of a user on one side, a guest's console on the other, bytes between them.

A page of another site can't use a user's token: the origin must be the proxy itself, or one that is allowed, which is
the first check. The proxy looks the token up before it opens the websocket; the token says where to connect to
(`connecting`), and both sides of a screen agree on security with the proxy, each for itself (`rfb`, `passage`). A
browser that opens the address itself gets the files of another viewer (`web`), where there are some, else our page
(`pages`). An open console is closed when its server is gone, moved or rebuilt (`sessions`).
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import Future
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from secrets import token_urlsafe
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tornado.http1connection import HTTP1Connection
from tornado.iostream import StreamClosedError
from tornado.web import Application
from tornado.websocket import WebSocketHandler

from cell_service.consoles.connecting import SCREEN, HostSecurity, connected
from cell_service.consoles.files import OurFiles, Viewer
from cell_service.consoles.pages import ROOT, VERSION, page, page_headers_of
from cell_service.consoles.passage import Passage
from cell_service.consoles.rfb import Welcome
from cell_service.consoles.sessions import Session, SessionRules, Sessions
from cell_service.errors import ConsoleRefused, Invalid, PolycellError
from cell_service.http.connections import ConnectionSettings
from cell_service.http.listener import Listener
from cell_service.http.pages import frame_headers
from cell_service.logs import about
from cell_service.model.console import DIRECT, ConsoleToken

log = logging.getLogger(__name__)

Lookup = Callable[[str], ConsoleToken | None]
"""Finds the console that a token opens; None: the token opens none. Raises Unavailable."""
ABOUT = "/about"
"""Where the page's script gets the server's name and state."""
REVOKED = 4403
"""The code with which a web socket is closed whose console is not to be opened again."""
UNREADABLE = "The proxy's certificates for hosts cannot be used."


class ConsoleProxy:
    """A listening console proxy. `start` and `drain` may be called from any thread."""

    def __init__(
        self,
        lookup: Lookup,
        *,
        allowed_origins: tuple[str, ...] = (),
        threads: int = 4,
        web: str = "",
        rules: SessionRules | None = None,
        security: HostSecurity | None = None,
    ) -> None:
        self.security = security or HostSecurity()
        self.lookup, self.allowed_origins, self.sessions = lookup, allowed_origins, Sessions(rules or SessionRules())
        self.workers = ThreadPoolExecutor(threads, thread_name_prefix="console")
        files = (rf"/.*?files/{VERSION}/(.*)", OurFiles, {"path": str(ROOT)})
        console = (r"/(?:websockify|about)?" if web else r"/.*", _Console, {"proxy": self})
        viewer = [(r"/(.*)", Viewer, {"path": web})] if web else []
        framing = frame_headers(allowed_origins)
        application = Application([files, console, *viewer], log_function=_say_nothing, framing=framing)
        self.listener = Listener("console", application, busy=lambda: self.open, ended=self._end)
        self.drain = self.listener.drain

    def start(
        self,
        port: int = 0,
        address: str = "127.0.0.1",
        *,
        reuse_port: bool = False,
        settings: ConnectionSettings | None = None,
    ) -> None:
        """Serve on a thread of its own. Raises Unavailable."""
        self.listener.start(port, address, reuse_port=reuse_port, settings=settings)
        self.sessions.start()

    @property
    def open(self) -> int:
        """The number of open consoles."""
        return len(self.sessions)

    @property
    def port(self) -> int:
        return self.listener.port

    def _end(self) -> None:
        self.sessions.stop(0)
        self.workers.shutdown(wait=False, cancel_futures=True)


class _Console(WebSocketHandler):
    def initialize(self, proxy: ConsoleProxy) -> None:
        self._proxy = proxy
        self._passage: Passage | None = None
        self._session: Session | None = None
        self._address = getattr(getattr(self.request.connection, "context", None), "address", None)

    @property
    def ping_interval(self) -> float | None:
        """The seconds in which a client must answer a ping; then its web socket is closed, for it has gone or reads no
        more."""
        return self._proxy.listener.settings.seconds or None

    def check_origin(self, origin: str) -> bool:
        return super().check_origin(origin) or urlsplit(origin).hostname in self._proxy.allowed_origins

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        return "binary" if "binary" in subprotocols else None

    def head(self, *args: object, **kwargs: object) -> None:
        """200: the proxy answers. What a token opens is for those who GET it."""
        self.finish()

    def options(self, *args: object, **kwargs: object) -> None:
        """200, with the methods."""
        self.set_header("Allow", "GET, HEAD, OPTIONS")
        self.finish()

    async def get(self, *args: object, **kwargs: object) -> None:
        """403 for a token that opens nothing, and at once for none: no cell need answer; 502 when the console can't be
        reached; a page for a request that is no websocket's. A page of another site is refused first: 403."""
        if self._is_socket() and self._is_of_another_site():
            origin = self.request.headers.get("Origin", "")
            log.warning("console not opened", extra=about(None, reason=f"a page of {origin} is not allowed"))
            self._refuse(403)
            return
        if not (secret := self._secret()):
            self._refuse(403)
            return
        loop = asyncio.get_running_loop()
        try:
            token = await loop.run_in_executor(self._proxy.workers, self._proxy.lookup, secret)
        except PolycellError as error:
            log.warning("console token not looked up", extra=about(None, reason=error))
            self.set_status(503)
            if self._is_for_page():
                self._show_page()  # which tries again
            else:
                self.finish()
            return
        if token is None or token.kind == DIRECT:
            self._refuse(403)
            return
        if self._is_for_page():
            self._show_page()
            return
        if self.request.path.endswith(ABOUT):
            self.set_header("Cache-Control", "no-store")
            self.finish({"kind": token.kind, "name": token.name or token.instance_uuid, "state": token.state})
            return
        stream, refusal = None, ""
        try:
            stream = await connected(token, self._proxy.security)
        except (ConsoleRefused, Invalid) as error:
            log.warning("console not opened", extra=about(None, instance=token.instance_uuid, reason=error))
            refusal = str(error) if isinstance(error, ConsoleRefused) else UNREADABLE
        except (OSError, StreamClosedError) as error:
            log.warning("console not reached", extra=about(None, instance=token.instance_uuid, reason=error))
            self._refuse(502)
            return
        else:
            log.info("console opened", extra=about(None, instance=token.instance_uuid, kind=token.kind))
            self._session = Session(token, self._closer(loop))
        welcome = Welcome(refusal) if token.kind == SCREEN else None
        self._passage = Passage(stream, welcome, refusal, self._send, self.close)
        await super().get(*args, **kwargs)
        if self.ws_connection is None:
            self._passage.end()

    def _is_of_another_site(self) -> bool:
        """Whether a page opens this that is neither ours nor allowed. Clients that are no browsers name no page."""
        site = self.request.headers.get("Sec-Fetch-Site")
        if site in ("same-origin", "none"):
            return False
        origin = self.request.headers.get("Origin") or self.request.headers.get("Sec-Websocket-Origin")
        if not origin:
            return site is not None
        here = self.request.headers.get("Host", "").lower()
        try:
            return urlsplit(origin).netloc.lower() != here and not self.check_origin(origin)
        except ValueError:  # it is no URL
            return True

    def _is_socket(self) -> bool:
        return self.request.headers.get("Upgrade", "").lower() == "websocket"

    def _is_for_page(self) -> bool:
        """Whether a browser has opened the address."""
        return not self._is_socket() and not self.request.path.endswith(ABOUT)

    def _show_page(self) -> None:
        self.set_header("Cache-Control", "no-store")
        self.set_header("Referrer-Policy", "no-referrer")
        nonce = token_urlsafe(16)
        here = f"{'wss' if self.request.protocol == 'https' else 'ws'}://{self.request.host}"
        for name, value in page_headers_of(nonce, here, self._proxy.allowed_origins).items():
            self.set_header(name, value)
        self.finish(page(nonce))

    def _closer(self, loop: asyncio.AbstractEventLoop) -> Callable[[str], None]:
        def end(reason: str) -> None:
            if self._passage is not None:
                self._passage.end()
            self.close(REVOKED, reason)

        def close(reason: str) -> None:
            with suppress(RuntimeError):  # the loop has ended, and with it the console
                loop.call_soon_threadsafe(end, reason)

        return close

    async def open(self, *args: str, **kwargs: str) -> None:
        assert self._passage is not None
        self._proxy.listener.clients.add(self._address)
        if self._session is not None:
            self._proxy.sessions.add(self._session)
        await self._passage.begin()

    async def on_message(self, message: str | bytes) -> None:
        assert self._passage is not None
        await self._passage.heard(message.encode() if isinstance(message, str) else message)

    def on_close(self) -> None:
        if self._session is not None:
            self._proxy.sessions.remove(self._session)
        self._proxy.listener.clients.remove(self._address)
        if self._passage is not None:
            self._passage.end()

    async def _send(self, said: bytes) -> None:
        await self.write_message(said, binary=True)

    def _secret(self) -> str:
        """The token as clients send it: in the query, in the `path` that noVNC passes on, or in a cookie."""
        direct = self.get_query_argument("token", "") or self.get_cookie("token") or ""
        within = parse_qs(urlsplit(self.get_query_argument("path", "")).query).get("token", [""])
        return direct or within[-1]

    def finish(self, chunk: str | bytes | dict[str, Any] | None = None) -> Future[None]:
        """End the connection after a refusal: clients of websockets wait for that."""
        if self.get_status() < 400:
            return super().finish(chunk)
        self.set_header("Connection", "close")
        connection = self.request.connection
        sent = super().finish(chunk)
        if isinstance(connection, HTTP1Connection):
            sent.add_done_callback(lambda _sent: connection.close())
        return sent

    def _refuse(self, status: int) -> None:
        self.set_status(status)
        self.finish()


def _say_nothing(_handler: object) -> None:
    """Log no request: addresses have tokens in them."""
