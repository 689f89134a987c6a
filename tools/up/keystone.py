"""The records of a cloud in a Keystone that was there before: where its services are, and what its account may do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from tools.up.configs import region
from tools.up.plan import Plan
from tools.up.seeding import admin_session, ask

ROLE = "service"
"""The role that network and volume services demand of those who act for others."""
INTERFACES = ("public", "internal")
_NAMES = {"compute": "nova", "placement": "placement", "image": "glance", "network": "neutron", "volumev3": "cinderv3",
          "block-storage": "cinder", "sharev2": "manilav2", "shared-file-system": "manila",
          "key-manager": "barbican"}  # fmt: skip
_OURS = ("127.0.0.1", "localhost")


def register(plan: Plan, endpoints: Mapping[str, str]) -> list[str]:
    """Register these endpoints (service type → URL) in the catalogue, and give the account the role `service` on its
    project. Done again, it adds what is missing, and follows a cloud on this machine to other ports; the endpoint of a
    service elsewhere stays. Answers what was done, a line each. Raises PeerUnavailable, also for an account that may
    not."""
    session = admin_session(plan)
    keystone = _Keystone(session, plan.endpoint("identity").rstrip("/").removesuffix("/v3") + "/v3")
    keystone.grant(ROLE)
    keystone.demand_region(region(plan))
    said = []
    for kind, url in endpoints.items():
        for interface in INTERFACES:
            stays = keystone.place(kind, interface, region(plan), url)
            if stays:
                said.append(f"the catalogue's {interface} endpoint of {kind} stays {stays}")
    return said


class _Keystone:
    def __init__(self, session: Any, url: str) -> None:
        self._session, self._url = session, url

    def grant(self, role: str) -> None:
        """Give the account the role on the project that it logs in to."""
        found = self._found("roles", name=role) or self._ask("POST", "/roles", json={"role": {"name": role}})["role"]
        user, project = self._session.get_user_id(), self._session.get_project_id()
        self._ask("PUT", f"/projects/{project}/users/{user}/roles/{found['id']}")

    def demand_region(self, name: str) -> None:
        if name not in {each["id"] for each in self._ask("GET", "/regions")["regions"]}:
            self._ask("POST", "/regions", json={"region": {"id": name}})

    def place(self, kind: str, interface: str, region: str, url: str) -> str:
        """Give the service the endpoint. Answers the URL of one elsewhere, which stays; else nothing."""
        service = self._found("services", type=kind)
        if service is None:
            body = {"service": {"type": kind, "name": _NAMES.get(kind, kind)}}
            service = self._ask("POST", "/services", json=body)["service"]
        key = {"service_id": service["id"], "interface": interface, "region_id": region}
        known = self._found("endpoints", **key)
        if known is None:
            self._ask("POST", "/endpoints", json={"endpoint": {**key, "url": url}})
        elif known["url"] != url:
            if urlsplit(known["url"]).hostname not in _OURS:
                return str(known["url"])
            self._ask("PATCH", f"/endpoints/{known['id']}", json={"endpoint": {"url": url}})
        return ""

    def _found(self, plural: str, **key: str) -> dict[str, Any] | None:
        query = "&".join(f"{name}={quote(value)}" for name, value in key.items())
        listed: list[dict[str, Any]] = self._ask("GET", f"/{plural}?{query}")[plural]
        return next((each for each in listed if all(each.get(name) == value for name, value in key.items())), None)

    def _ask(self, method: str, path: str, **more: Any) -> Any:
        return ask(self._session, method, f"{self._url}{path}", **more)
