"""A small cloud with one of everything in it, and valid requests for each published route."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from api_cell.config import Quota
from cell_service.context import SYSTEM_CLOCK
from cell_service.model.instance import Flavor
from mapping_db import flavors
from tests.edge import reference
from tests.edge.client import Client, Reply
from tests.edge.reference import parsed
from tests.federation.cloud import Federation
from tests.surface.making import make

SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGjW2DMVvlm6bKzj5LnHGBJYQCXSm8xGLBOCyOnGxJSP ann@example"
UNBOUND = Quota(instances=-1, cores=-1, ram=-1, key_pairs=-1, server_groups=-1)
FIRST: dict[str, list[tuple[str, Any]]] = {
    "os-start": [("os-stop", None)],
    "unpause": [("pause", None)],
    "resume": [("suspend", None)],
    "unshelve": [("shelve", None)],
    "shelveOffload": [("shelve", None)],
    "confirmResize": [("resize", {"flavorRef": "2"})],
    "revertResize": [("resize", {"flavorRef": "2"})],
    "unlock": [("lock", None)],
    "unrescue": [("rescue", None)],
    "evacuate": [],
}
"""What a server goes through so that an action has something to do."""


@dataclass(frozen=True)
class Row:
    """A published route."""

    data: dict[str, Any]

    @property
    def name(self) -> str:
        return " ".join(part for part in (self.data["method"], self.data["path"], self.data["action"]) if part)

    @property
    def key(self) -> tuple[str, str, str | None]:
        return self.data["method"], re.sub(r"\{[^}]*\}", "{}", self.data["path"]), self.data["action"]

    @property
    def versions(self) -> list[str]:
        """The lowest and the highest at which it is there."""
        return sorted({self.data["min_version"], self.data["max_version"]}, key=parsed)

    def allowed(self) -> set[int]:
        """Every status that it may answer a valid request of an administrator with."""
        found = {success["code"] for success in self.data["success"]}
        for errors in self.data["expected_errors"]:
            found |= set(errors["codes"])
        return found | ({self.data["removed_status"]} if self.data["removed"] else set())

    def schema(self, kind: str, version: str) -> Any:
        return reference._schema(self.data["schema_file"], kind, version)


@cache
def rows() -> tuple[Row, ...]:
    """The published routes below /v2.1; none where the data is not there."""
    if not (reference.FOLDER / "routes.json").exists():
        return ()
    published = json.loads((reference.FOLDER / "routes.json").read_text())["routes"]
    return tuple(Row(row) for row in published if " " not in row["path"] and row["path"] not in ("/", "/versions/{id}"))


@cache
def samples() -> tuple[tuple[str, dict[str, Any]], ...]:
    """Every published body with the request that it belongs to."""
    index = json.loads((reference.FOLDER / "samples_index.json").read_text())["samples"]
    return tuple((name, use) for name, uses in index.items() for use in uses)


class World:
    """One cell with two hosts. What requests use up is made anew."""

    def __init__(self, directory: Path) -> None:
        self.cloud = Federation(directory, cells=1, hosts=2, quota=UNBOUND, move_seconds=0, live_seconds=0)
        self.admin: Client = self.cloud.admin
        for name in ("2", "spare"):
            self.cloud.db.run(lambda tx, name=name: flavors.insert_flavor(tx, Flavor(name, f"f{name}", 1, 64, 1),
                                                                         SYSTEM_CLOCK.now()))  # fmt: skip
        self._server: str | None = None

    def close(self) -> None:
        self.cloud.close()

    def server(self) -> str:
        """An active server that nobody has locked, with a tag `t` and an item `key`."""
        if self._server is not None:
            shown = self.admin.get(f"/servers/{self._server}", version="2.96")
            server = shown.json.get("server", {})
            if (server.get("OS-EXT-STS:task_state") or "deleting") != "deleting":
                server = self.cloud.settled(self._server)
            if (
                server.get("status") == "ACTIVE"
                and server["OS-EXT-STS:task_state"] is None
                and not server["locked"]
                and "t" in server["tags"]
            ):
                return self._server
        self._server = self.cloud.boot(metadata={"key": "v"}, tags=["t"])
        return self._server

    def reset(self) -> None:
        """The next request is about a new server."""
        self._server = None

    def ask(self, row: Row, version: str, body: Any = None, query: str = "", by: Client | None = None) -> Reply:
        """A valid request of this row, as the administrator unless said otherwise."""
        path = self.path(row, version) + query
        content = self.body(row, version) if body is None else body
        return (by or self.admin).request(row.data["method"], path, content, version=version)

    # -- paths ------------------------------------------------------------------------------------

    def path(self, row: Row, version: str) -> str:
        """The row's path with things in it that are there."""
        collection, made = "", []
        for segment in row.data["path"].split("/"):
            if segment.startswith("{"):
                segment = self._thing(collection, row, version)
            else:
                collection = segment
            made.append(segment)
        return quote("/".join(made))

    def _thing(self, collection: str, row: Row, version: str) -> str:
        name = "_" + collection.replace("-", "_")
        return str(getattr(self, name)(row, version) if hasattr(self, name) else uuid4())

    def _servers(self, row: Row, version: str) -> str:
        uuid = self.server()
        for action, content in FIRST.get(row.data["action"] or "", []):
            self.cloud.act(uuid, action, content)
            self.cloud.settled(uuid)
        return uuid

    _os_volumes_boot = _servers

    def _flavors(self, row: Row, version: str) -> str:
        flavor = {"name": uuid4().hex, "ram": 64, "vcpus": 1, "disk": 1, "os-flavor-access:is_public": False}
        made = self.admin.post("/flavors", {"flavor": flavor})
        uuid: str = made.json["flavor"]["id"]
        self.admin.post(f"/flavors/{uuid}/os-extra_specs", {"extra_specs": {"key": "v"}})
        if row.data["action"] == "removeTenantAccess":
            self.admin.post(f"/flavors/{uuid}/action", {"addTenantAccess": {"tenant": "made"}})
        return uuid

    def _os_keypairs(self, row: Row, version: str) -> str:
        name = uuid4().hex
        self.admin.post("/os-keypairs", {"keypair": {"name": name, "public_key": SSH_KEY}})
        return name

    def _os_aggregates(self, row: Row, version: str) -> str:
        made = self.admin.post("/os-aggregates", {"aggregate": {"name": uuid4().hex}}).json["aggregate"]["id"]
        if row.data["action"] == "remove_host":
            self.admin.post(f"/os-aggregates/{made}/action", {"add_host": {"host": "cell1-host1"}})
        return str(made)

    def _os_server_groups(self, row: Row, version: str) -> str:
        made = self.admin.post("/os-server-groups", {"server_group": {"name": "g", "policies": ["affinity"]}})
        uuid: str = made.json["server_group"]["id"]
        return uuid

    def _os_services(self, row: Row, version: str) -> str:
        if row.data["method"] == "DELETE":
            return str(uuid4()) if parsed(version) >= (2, 53) else "999"
        if parsed(version) < (2, 53):
            return "enable"
        every = self.admin.get("/os-services", version="2.53").json["services"]
        return next(each["id"] for each in every if each["binary"] == "nova-compute")

    def _os_hypervisors(self, row: Row, version: str) -> str:
        if row.data["path"].endswith(("/search", "/servers")):
            return "cell1"
        return str(self.admin.get("/os-hypervisors", version=version).json["hypervisors"][0]["id"])

    def _os_quota_sets(self, row: Row, version: str) -> str:
        return "admin-project"

    def _os_quota_class_sets(self, row: Row, version: str) -> str:
        return "default"

    def _os_simple_tenant_usage(self, row: Row, version: str) -> str:
        return "admin-project"

    def _os_hosts(self, row: Row, version: str) -> str:
        return "cell1-host2"

    def _extensions(self, row: Row, version: str) -> str:
        return "os-keypairs"

    def _tags(self, row: Row, version: str) -> str:
        return "other" if row.data["method"] != "GET" else "t"

    def _metadata(self, row: Row, version: str) -> str:
        if row.data["method"] == "DELETE" and row.data["path"].startswith("/servers"):
            self.admin.put(f"/servers/{self._server}/metadata/gone", {"meta": {"gone": "v"}})
            return "gone"
        return "key"

    def _os_extra_specs(self, row: Row, version: str) -> str:
        return "key"

    def _os_instance_actions(self, row: Row, version: str) -> str:
        done = self.admin.get(f"/servers/{self._server}/os-instance-actions").json["instanceActions"]
        return str(done[0]["request_id"])

    def _ips(self, row: Row, version: str) -> str:
        found = list(self.admin.get(f"/servers/{self._server}/ips").json["addresses"])
        return found[0] if found else "none"

    def _images(self, row: Row, version: str) -> str:
        return self.cloud.images.add(visibility="private", owner="admin-project", properties={"key": "v"})

    def _os_instance_usage_audit_log(self, row: Row, version: str) -> str:
        return "2026-01-01 00:00:00"

    # -- bodies -----------------------------------------------------------------------------------

    def known(self, version: str) -> dict[str, Any]:
        """Values for names in bodies that speak of things which are there."""
        return {
            "imageRef": self.cloud.image_id,
            "flavorRef": "2",
            "host": None if parsed(version) < (2, 53) else "cell1-host2",
            "networks": "none" if parsed(version) >= (2, 37) else [],
            "public_key": SSH_KEY,
            "policies": ["affinity"],
            "tenant": "made",
        }

    def body(self, row: Row, version: str) -> Any:
        """The least body that the published schema takes; None where there is none."""
        method, path, action = row.key
        if method not in ("POST", "PUT"):
            return None
        special = _BODIES.get((path, action))
        if special is not None:
            return special
        if row.data["removed"] and action:
            return {action: None}
        schema = row.schema("request_body", version)
        if schema is None:
            return {action: None} if action else None if method == "PUT" else {}
        known = self.known(version)
        if path == "/servers":
            known["flavorRef"] = "1"
        if path in ("/flavors", "/os-keypairs", "/os-aggregates"):
            known["name"] = uuid4().hex
        made = make(schema, known)
        return {action: None} if action and made == {} else made


_BODIES: dict[tuple[str, str | None], Any] = {
    ("/servers/{}/metadata/{}", None): {"meta": {"key": "w"}},
    ("/images/{}/metadata/{}", None): {"meta": {"key": "w"}},
    ("/images/{}/metadata", None): {"metadata": {"key": "w"}},
    ("/servers/{}/metadata", None): {"metadata": {"key": "w"}},
    ("/flavors/{}/os-extra_specs/{}", None): {"key": "w"},
    ("/os-aggregates/{}/action", "add_host"): {"add_host": {"host": "cell1-host1"}},
    ("/os-aggregates/{}/action", "remove_host"): {"remove_host": {"host": "cell1-host1"}},
    ("/servers/{}/action", "os-getConsoleOutput"): {"os-getConsoleOutput": {}},
}
