"""The cloud that is measured: what `polycell up` wrote to polycell.json, and plain requests to it."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench import load

MICROVERSION = "2.79"
MANAGE_FILES = ("etc/nova.conf", "etc/global.conf")
"""What the launcher writes for the global processes; both together."""


class Unusable(Exception):
    """The cloud cannot be measured, and why."""


@dataclass(frozen=True, slots=True)
class Target:
    """`token` is an administrator's. `prefix` is the path of the Compute API, with the version."""

    directory: Path
    host: str
    port: int
    prefix: str
    token: str
    project_id: str
    endpoints: Mapping[str, str]
    cells: tuple[Mapping[str, Any], ...]
    processes: tuple[Mapping[str, Any], ...]

    @property
    def headers(self) -> dict[str, str]:
        return {
            "X-Auth-Token": self.token,
            "Accept": "application/json",
            "OpenStack-API-Version": f"compute {MICROVERSION}",
        }

    def request(self, method: str, path: str, body: Any = None) -> bytes:
        """The bytes of a request to the Compute API."""
        data = None if body is None else json.dumps(body).encode()
        return load.request(method, f"{self.host}:{self.port}", self.prefix + path, self.headers, data)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON that the Compute API answers. Raises Unusable for an answer of 400 or more."""
        return ask(f"http://{self.host}:{self.port}{self.prefix}{path}", self.headers, method, body)

    def manage(self, config_file: str | None, *words: str) -> None:
        """Run polycell-manage on this cloud. Raises Unusable."""
        files = [config_file] if config_file else [str(self.directory / name) for name in MANAGE_FILES]
        options = [word for name in files for word in ("--config-file", name)]
        ran = subprocess.run(
            [sys.executable, "-m", "tools.manage.main", *options, *words], capture_output=True, text=True
        )
        if ran.returncode:
            raise Unusable(f"polycell-manage {' '.join(words)}: {ran.stderr.strip()}")


def arguments(description: str) -> argparse.ArgumentParser:
    """The options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--state", default="./.polycell", metavar="DIR", help="what `polycell up --state` was given")
    parser.add_argument("--config-file", help="nova.conf with the global database, for polycell-manage")
    parser.add_argument("--out", metavar="FILE", help="write the JSON here too")
    return parser


def read(state: str) -> Target:
    """Raises Unusable."""
    directory = Path(state)
    try:
        recorded = json.loads((directory / "polycell.json").read_text(encoding="utf-8"))
        endpoints = {name: _url(value) for name, value in recorded["endpoints"].items()}
        admin = recorded["admin"] if "admin" in recorded else recorded["credentials"]["admin"]
        compute = urlsplit(endpoints["compute"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unusable(f"{directory / 'polycell.json'}: {type(error).__name__}: {error}") from error
    token, project_id = _token(endpoints, admin)
    prefix = compute.path.rstrip("/") or "/v2.1"
    return Target(
        directory=directory, host=compute.hostname or "127.0.0.1", port=compute.port or 80, prefix=prefix, token=token,
        project_id=project_id, endpoints=endpoints, cells=tuple(recorded.get("cells", ())),
        processes=tuple(recorded.get("processes", ())),
    )  # fmt: skip


def database_url(cell: Mapping[str, Any]) -> str:
    """The URL of a cell's database."""
    for key in ("database", "database_url", "database_connection"):
        if isinstance(cell.get(key), str):
            return str(cell[key])
    raise Unusable(f"polycell.json does not tell the database of cell {cell.get('name')}")


def ask(url: str, headers: Mapping[str, str], method: str = "GET", body: Any = None) -> Any:
    return _ask(url, headers, method, body)[0]


def emit(result: Mapping[str, Any], out: str | None) -> None:
    """Print the result, and keep it where it is wanted."""
    text = json.dumps(result, indent=2)
    print(text)
    if out:
        Path(out).write_text(text + "\n", encoding="utf-8")


def _ask(url: str, headers: Mapping[str, str], method: str, body: Any) -> tuple[Any, Mapping[str, str]]:
    data = None if body is None else json.dumps(body).encode()
    sent = urllib.request.Request(url, data, {"Content-Type": "application/json", **headers}, method=method)
    try:
        with urllib.request.urlopen(sent, timeout=60) as answer:
            text = answer.read()
            return (json.loads(text) if text else None), answer.headers
    except (OSError, ValueError) as error:
        detail = error.read().decode(errors="replace")[:300] if hasattr(error, "read") else ""
        raise Unusable(f"{method} {url.partition('?')[0]}: {error} {detail}") from error


def _token(endpoints: Mapping[str, str], admin: Mapping[str, Any]) -> tuple[str, str]:
    """A token of the administrator, and the id of its project."""
    if "identity" not in endpoints or "token" in admin:
        user, project = str(admin.get("username", "admin")), str(admin.get("project_id") or admin["project_name"])
        return str(admin.get("token", f"{user}:{project}")), project
    user_domain = {"name": admin.get("user_domain_name", "Default")}
    project_domain = {"name": admin.get("project_domain_name", "Default")}
    who = {"name": admin["username"], "password": admin["password"], "domain": user_domain}
    body = {"auth": {
        "identity": {"methods": ["password"], "password": {"user": who}},
        "scope": {"project": {"name": admin["project_name"], "domain": project_domain}},
    }}  # fmt: skip
    base = endpoints["identity"].rstrip("/").removesuffix("/v3")
    answer, headers = _ask(f"{base}/v3/auth/tokens", {}, "POST", body)
    return headers["X-Subject-Token"], answer["token"]["project"]["id"]


def _url(value: Any) -> str:
    """An endpoint is a URL, or an object with one."""
    return str(value["public"] if isinstance(value, dict) and "public" in value else value)
