"""Chromium without a window, driven by its DevTools protocol (https://chromedevtools.github.io/devtools-protocol)."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from threading import Thread
from typing import Any

from tornado.websocket import WebSocketClientConnection, websocket_connect

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HEIGHT = 844
_LISTENING = re.compile(rb"DevTools listening on (ws://\S+)")
PATIENCE_SECONDS = 300
_UNTIL = """new Promise((holds, fails) => {{
  const last = performance.now() + 1000 * {1}
  const look = () => {{
    let held = false
    try {{ held = Boolean({0}) }} catch {{}}
    if (held) holds(true)
    else if (performance.now() > last) fails("waited in vain")
    else setTimeout(look, 20)
  }}
  look()
}})"""


class Browser:
    """One process, with a profile of its own that ends with it."""

    def __init__(self) -> None:
        self._answers: dict[int, Mapping[str, Any]] = {}
        self._problems: dict[str, list[str]] = {}
        self._sent = 0

    def __enter__(self) -> Browser:
        assert PROGRAM is not None
        with ExitStack() as started:
            profile = started.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
            options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                       "--disable-dev-shm-usage", "--remote-debugging-port=0",
                       f"--user-data-dir={profile}")  # fmt: skip
            command = [PROGRAM, *options, "about:blank"]
            process = started.enter_context(subprocess.Popen(command, stderr=subprocess.PIPE))
            started.callback(process.terminate)
            self._loop = asyncio.new_event_loop()
            started.callback(self._loop.close)
            self._socket = self._loop.run_until_complete(_connected(_address(process)))
            Thread(target=process.communicate, daemon=True).start()  # what it says further would fill the pipe
            started.callback(lambda: self._loop.run_until_complete(_closed(self._socket)))
            self._started = started.pop_all()
        return self

    def __exit__(self, *_error: object) -> None:
        self._started.close()

    def open(self, url: str, *, width: int = 1280, dark: bool = False, height: int = HEIGHT) -> Page:
        """A page of this width, loaded."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, target, session, self._problems.setdefault(session, []))
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                  mobile=width < 600)  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.call("Emulation.setEmulatedMedia", features=[scheme])
        page.call("Page.navigate", url=url)
        page.until(f"location.href !== 'about:blank' && document.readyState === 'complete' && {json.dumps(url)}")
        return page

    def call(self, method: str, session: str | None = None, **params: Any) -> Mapping[str, Any]:
        """The result of a method. Raises AssertionError where the browser answers an error."""
        return self._loop.run_until_complete(self._call(method, session, params))

    async def _call(self, method: str, session: str | None, params: Mapping[str, Any]) -> Mapping[str, Any]:
        self._sent += 1
        number = self._sent
        message = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        await self._socket.write_message(json.dumps(message))
        while number not in self._answers:
            said = await self._socket.read_message()
            assert said is not None, "the browser has gone"
            self._heard(json.loads(said))
        answer = self._answers.pop(number)
        assert "error" not in answer, (method, answer)
        result: Mapping[str, Any] = answer["result"]
        return result

    def _heard(self, message: Mapping[str, Any]) -> None:
        if "id" in message:
            self._answers[message["id"]] = message
            return
        params, problems = message["params"], self._problems.get(message.get("sessionId", ""), [])
        match message["method"]:
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                problems.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                problems.append(" ".join(str(each.get("value", each)) for each in params["args"]))
            case "Runtime.exceptionThrown":
                problems.append(json.dumps(params["exceptionDetails"]))
            case "Network.requestWillBeSent":
                self._requested(message["sessionId"], params)

    def _requested(self, session: str, params: Mapping[str, Any]) -> None:
        page, wanted = params["documentURL"], params["request"]["url"]
        if not wanted.startswith(("data:", "blob:", page.split("/", 3)[0] + "//" + page.split("/")[2])):
            self._problems[session].append(f"from elsewhere: {wanted}")


def _address(process: subprocess.Popen[bytes]) -> str:
    """Where the browser listens, which it says when it has started."""
    said = b""
    assert process.stderr is not None
    for line in process.stderr:
        said += line
        if found := _LISTENING.search(line):
            return found[1].decode()
    raise AssertionError(f"{PROGRAM} does not start: {said.decode(errors='replace')}")


async def _connected(address: str) -> WebSocketClientConnection:
    return await websocket_connect(address, max_message_size=1 << 28)


async def _closed(connection: WebSocketClientConnection) -> None:
    """Closed on its loop, which other tests of the process may have taken from the thread."""
    connection.close()


class Page:
    """A page that is open. `problems`: what its console said, scripts that failed, requests to other places."""

    def __init__(self, browser: Browser, target: str, session: str, problems: list[str]) -> None:
        self._browser, self._target, self._session, self.problems = browser, target, session, problems

    def call(self, method: str, **params: Any) -> Mapping[str, Any]:
        return self._browser.call(method, self._session, **params)

    def eval(self, script: str) -> Any:
        """What the script, an expression, is; a promise is waited for."""
        made = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in made, made
        return made["result"].get("value")

    def until(self, condition: str) -> None:
        """The condition holds. Raises AssertionError where it does not come to that."""
        self.eval(_UNTIL.format(condition, PATIENCE_SECONDS))

    def click(self, selector: str) -> None:
        """What the selector finds first, once it is there, is clicked."""
        self.until(f"document.querySelector({json.dumps(selector)})")
        self.eval(f"document.querySelector({json.dumps(selector)}).click()")

    def type(self, selector: str, text: str) -> None:
        """The text is typed into a field."""
        self.until(f"document.querySelector({json.dumps(selector)})")
        self.eval(f"document.querySelector({json.dumps(selector)}).focus()")
        self.call("Input.insertText", text=text)

    def screen(self, file: Path) -> None:
        """Write what is seen as a PNG."""
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        self._browser.call("Target.closeTarget", targetId=self._target)
