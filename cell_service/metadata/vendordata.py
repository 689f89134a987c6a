"""The deployer's additions to a guest's metadata: a JSON file, and the answers of services that get a request for each
server."""

from __future__ import annotations

import json
import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any

import keystoneauth1.exceptions
import keystoneauth1.session
import requests

from cell_service.context import Context
from cell_service.errors import PeerUnavailable
from cell_service.logs import about
from cell_service.metadata.config import MetadataSettings
from cell_service.metadata.content import Content, Vendor
from cell_service.peers.session import account

log = logging.getLogger(__name__)

MOST_BYTES = 1 << 20
THREADS = 8
_FAILURES = (keystoneauth1.exceptions.ClientException, requests.exceptions.RequestException, ValueError)


class VendorData:
    """Thread-safe. The file is read again each time, so a change takes effect at once."""

    def __init__(self, settings: MetadataSettings) -> None:
        self._options = settings.api
        self._targets = _targets(self._options.vendordata_dynamic_targets)
        connections = requests.Session()
        connections.trust_env = False
        auth = account(settings.vendordata_auth) if settings.vendordata_auth.auth_url else None
        self._session = keystoneauth1.session.Session(
            auth=auth, session=connections, verify=self._options.vendordata_dynamic_ssl_certfile or True
        )
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="vendordata")

    @property
    def dynamic(self) -> bool:
        """Whether there are any services to ask."""
        return bool(self._targets) and "DynamicJSON" in self._options.vendordata_providers

    def about(self, ctx: Context, content: Content, *, dynamic: bool = True) -> Vendor:
        """The vendor data for this server (not `dynamic`: without the services). A target that fails counts as {}.

        Raises PeerUnavailable when one fails and failures are fatal.
        """
        static = self.static(ctx) if "StaticJSON" in self._options.vendordata_providers else {}
        return Vendor(static, self._ask_all(ctx, content) if dynamic and self.dynamic else {})

    def static(self, ctx: Context) -> dict[str, Any]:
        """The file's content; {} when there is no file, or none that can be read."""
        path = self._options.vendordata_jsonfile_path
        if not path:
            return {}
        try:
            read = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            log.warning("vendor data file not usable", extra=about(ctx, path=path, reason=error))
            return {}
        if not isinstance(read, dict):
            log.warning("vendor data file is no JSON object", extra=about(ctx, path=path))
            return {}
        return read

    def close(self) -> None:
        """Send no more requests to the services."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _ask_all(self, ctx: Context, content: Content) -> dict[str, Any]:
        seconds = self._options.vendordata_dynamic_connect_timeout + self._options.vendordata_dynamic_read_timeout
        requested: dict[str, Future[Any]] = {
            name: self._threads.submit(partial(self._ask, url, content, seconds)) for name, url in self._targets.items()
        }
        wait(requested.values(), timeout=seconds)
        answers: dict[str, Any] = {}
        for name, future in requested.items():
            error: object = "no answer in time" if not future.done() else future.exception()
            if error is None:
                answers[name] = future.result()
                continue
            future.cancel()
            instance = content.instance.uuid
            log.warning("vendor data not received", extra=about(ctx, instance=instance, target=name, reason=error))
            if self._options.vendordata_dynamic_failure_fatal:
                raise PeerUnavailable(service="vendor data", reason=f"target {name} failed")
            answers[name] = {}
        return answers

    def _ask(self, url: str, content: Content, seconds: float) -> Any:
        """The target's JSON. Raises one of _FAILURES."""
        until = time.monotonic() + seconds
        instance = content.instance
        reply = self._session.request(
            url,
            "POST",
            json={
                "project-id": instance.project_id,
                "instance-id": instance.uuid,
                "image-id": instance.image_ref or None,
                "user-data": instance.user_data,
                "hostname": content.hostname,
                "metadata": dict(instance.metadata),
                "boot-roles": None,
            },
            headers={"Accept": "application/json"},
            authenticated=self._session.auth is not None,
            redirect=False,
            stream=True,
            connect_retries=0,
            timeout=(self._options.vendordata_dynamic_connect_timeout, self._options.vendordata_dynamic_read_timeout),
        )
        try:
            raw = b""
            for piece in reply.iter_content(65536):
                raw += piece
                if len(raw) > MOST_BYTES:
                    raise ValueError("the answer is too long")
                if time.monotonic() > until:
                    raise ValueError("no answer in time")
        finally:
            reply.close()
        return json.loads(raw) if raw else {}


def _targets(texts: tuple[str, ...]) -> dict[str, str]:
    """Name → URL. Of two with the same name the first counts; what is not name@url is left out."""
    made: dict[str, str] = {}
    for text in texts:
        name, separator, url = text.partition("@")
        if not separator or not name.strip() or name.strip() in made or name.strip() == "static":
            log.warning("a target of vendor data is not usable", extra=about(None, target=text))
            continue
        made[name.strip()] = url.strip()
    return made
