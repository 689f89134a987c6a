"""A network companion for tests, and its users: an administrator and others, each named by a token `role:project`."""

from __future__ import annotations

from typing import Any

import requests

from api_cell.edge.auth import Identity
from cell_service.errors import Unauthenticated
from tools.companions.app import Companion

ROLES = {
    "admin": ("admin", "member", "reader"), "member": ("member", "reader"), "reader": ("reader",),
    "service": ("service", "member", "reader"),
}  # fmt: skip


class ByRole:
    """The token is `role:project`."""

    challenge = 'Keystone uri=""'

    def authenticate(self, token: str, service_token: str | None) -> Identity:
        role, _, project_id = token.partition(":")
        if role not in ROLES:
            raise Unauthenticated()
        return Identity(f"{role}-user", project_id, ROLES[role])


class NetworkService:
    """Requests are an administrator's of the project p1, unless `by` says so."""

    def __init__(self, companion: Companion) -> None:
        self._url = companion.url

    def send(self, method: str, path: str, body: Any = None, *, by: str = "admin:p1") -> requests.Response:
        headers = {"X-Auth-Token": by}
        return requests.request(method, f"{self._url}/v2.0/{path}", json=body, headers=headers, timeout=30)

    def made(self, path: str, key: str, *, by: str = "admin:p1", **fields: Any) -> dict[str, Any]:
        answer = self.send("POST", path, {key: fields}, by=by)
        assert answer.status_code == 201, answer.text
        return dict(answer.json()[key])

    def shown(self, path: str, *, by: str = "admin:p1") -> Any:
        answer = self.send("GET", path, by=by)
        assert answer.status_code == 200, answer.text
        return next(iter(answer.json().values()))

    def refused(self, method: str, path: str, body: Any = None, *, by: str = "admin:p1") -> tuple[int, str]:
        """Status and kind."""
        answer = self.send(method, path, body, by=by)
        return answer.status_code, str(answer.json()["NeutronError"]["type"])

    def network(self, cidr: str = "10.1.0.0/24", *, by: str = "admin:p1", **fields: Any) -> str:
        network = str(self.made("networks", "network", by=by, **fields)["id"])
        self.made("subnets", "subnet", by=by, network_id=network, cidr=cidr, ip_version=4)
        return network

    def port(self, network: str, *, by: str = "admin:p1", **fields: Any) -> str:
        return str(self.made("ports", "port", by=by, network_id=network, **fields)["id"])
