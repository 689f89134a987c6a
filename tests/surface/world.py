"""A small cloud with one of everything in it, and valid requests for each published route."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from api_cell.config import Quota
from cell_service.consoles.config import ConsoleSettings, SerialConsole, Spice
from cell_service.model.instance import Flavor
from mapping_db import flavors
from tests.edge.client import Client, Reply
from tests.edge.reference import parsed
from tests.federation.cloud import Federation
from tests.suites.peers import NET, WITH_AGENT
from tests.surface.making import make
from tests.surface.published import Row, rows, samples
from tests.surface.things import OLD, SSH_KEY, Things, furnish

__all__ = ["SSH_KEY", "Row", "World", "rows", "samples"]

UNBOUND = Quota(instances=-1, cores=-1, ram=-1, key_pairs=-1, server_groups=-1)
LIVE = {"host": None, "block_migration": "auto"}
SLOW_PATHS = ("/servers/{}/migrations/{}", "/servers/{}/migrations/{}/action")
SLOW_ACTIONS = ("restore", "shelveOffload")
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
    "restore": [("delete", None)],
}
"""What a server goes through so that an action has something to do."""


@dataclass(frozen=True)
class Valid:
    """A request that ought to be granted, and to whom it goes."""

    cloud: Federation
    path: str
    body: Any


class World(Things):
    """One cell with two hosts, and a third one without servers. What requests use up is made anew.

    `slow` is another such cloud, in which live migrations take long, deleted servers stay for a while and shelved ones
    keep their hosts.
    """

    def __init__(self, directory: Path, **options: Any) -> None:
        self._directory = directory
        consoles = ConsoleSettings(serial=SerialConsole(enabled=True), spice=Spice(enabled=True))
        settings = {"move_seconds": 0, "live_seconds": 0, "consoles": consoles, **options}
        self.cloud = Federation(directory, cells=1, hosts=3, quota=UNBOUND, host_boot_seconds=0, **settings)
        self.cloud.image_id = self.cloud.images.add(properties=WITH_AGENT)
        self.admin = self.cloud.admin
        self.cloud.spare("cell1-host3")
        furnish(self.cloud)
        for name in ("2", "spare"):
            self.cloud.db.run(lambda tx, name=name: flavors.insert_flavor(tx, Flavor(name, f"f{name}", 1, 64, 1),
                                                                         self.cloud.clock.now()))  # fmt: skip
        self.lasting = settings["live_seconds"] > 0
        self._slow: World | None = None
        self._host = ""

    def close(self) -> None:
        if self._slow is not None:
            self._slow.close()
        self.cloud.close()

    @property
    def slow(self) -> World:
        if self._slow is None:
            place = self._directory / "slow"
            place.mkdir()
            self._slow = World(place, live_seconds=600, reclaim=3600, offload_seconds=-1)
        return self._slow

    def server(self) -> str:
        """An active server of the first flavor, unlocked, with an address, a tag `t` and an item `key`."""
        if self._server is not None and self._fresh(self._server):
            return self._server
        self.reset()
        self._server = self.cloud.boot(metadata={"key": "v"}, tags=["t"], networks=[{"uuid": NET}])
        return self._server

    def _fresh(self, uuid: str) -> bool:
        shown = self.admin.get(f"/servers/{uuid}", version="2.96").json.get("server", {})
        if (shown.get("OS-EXT-STS:task_state") or "deleting") != "deleting":
            shown = self.cloud.settled(uuid)
        return (
            shown.get("status") == "ACTIVE"
            and shown["OS-EXT-STS:task_state"] is None
            and not shown["locked"]
            and shown["flavor"]["original_name"] == "tiny"
            and "t" in shown["tags"]
            and len(shown["addresses"].get("net", [])) == 1
        )

    def reset(self) -> None:
        """The next request is about a new server; the old one goes."""
        gone, self._server = self._server, None
        if gone is not None:
            self.cloud.act(gone, "forceDelete")
        if self._slow is not None:
            self._slow.reset()

    def granted(self, row: Row, version: str, ask: Callable[[Valid], Reply]) -> Reply:
        """The answer to a request for which everything has been made ready; what was changed for it is put back."""
        home = self.slow if row.key[1] in SLOW_PATHS or row.data["action"] in SLOW_ACTIONS else self
        path = home.path(row, version)
        down = row.data["action"] == "evacuate"
        if down:
            home.host_down(True)
        try:
            return ask(Valid(home.cloud, path, home.body(row, version)))
        finally:
            try:
                if down:
                    home.cloud.settled(str(home._server))
            finally:
                if down:
                    home.host_down(False)
                if row.key[1] in SLOW_PATHS:
                    home.reset()
                home.put_back(row)

    def put_back(self, row: Row) -> None:
        """Hosts are again as they were before such requests."""
        if row.key[1].startswith(("/os-hosts/", "/os-services/")):
            self.admin.get("/os-hosts/cell1-host3/startup", version=OLD)
            self.cloud.spare("cell1-host3")

    def host_down(self, down: bool) -> None:
        """Say of the server's host that it is down, or up again."""
        self._host = self.cloud.show(str(self._server))["OS-EXT-SRV-ATTR:host"] if down else self._host
        every = self.admin.get("/os-services", version="2.53").json["services"]
        service = next(each["id"] for each in every if each["host"] == self._host)
        self.admin.put(f"/os-services/{service}", {"forced_down": down}, version="2.53")

    def ask(self, row: Row, version: str, body: Any = None, query: str = "", by: Client | None = None) -> Reply:
        """A valid request of this row, as the administrator unless said otherwise."""
        if by is None and body is None and not query:
            return self.granted(row, version, lambda valid: valid.cloud.admin.request(
                row.data["method"], valid.path, valid.body, version=version))  # fmt: skip
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
        query = ""
        if row.key[:2] == ("DELETE", "/os-assisted-volume-snapshots/{}"):
            query = "?delete_info=" + quote(json.dumps({"volume_id": self.held()}))
        return quote("/".join(made)) + query

    def _thing(self, collection: str, row: Row, version: str) -> str:
        name = "_" + collection.replace("-", "_")
        return str(getattr(self, name)(row, version) if hasattr(self, name) else uuid4())

    def _servers(self, row: Row, version: str) -> str:
        uuid = self.server()
        if row.data["action"] in FIRST:
            self.quiet()  # the other host has still to forget a resize that was taken back
        if row.data["path"].startswith("/servers/{server_id}/shares"):
            self._lead(uuid, "os-stop", None)
            self.cloud.settled(uuid)
        for action, content in FIRST.get(row.data["action"] or "", []):
            if action == "delete":
                if not self.lasting:
                    continue  # it would be gone
                self.admin.delete(f"/servers/{uuid}")
            else:
                self._lead(uuid, action, content)
            self.cloud.settled(uuid)
        return uuid

    def _lead(self, uuid: str, action: str, content: Any) -> None:
        """Carry the action out, as soon as nothing is in its way any more."""

        def accepted() -> bool:
            reply = self.cloud.act(uuid, action, content)
            assert reply.status in (200, 202, 409), reply.raw
            return reply.status != 409

        self.cloud.until(accepted)

    _os_volumes_boot = _servers

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
        special = _BODIES.get((path, action)) or _BODIES.get((f"{method} {path}", action))
        if special is not None:
            return special(self, version)
        if row.data["removed"] and action:
            return {action: None}
        schema = row.schema("request_body", version)
        if schema is None:
            return {action: None} if action else None if method == "PUT" else {}
        known = self.known(version)
        if path.startswith(("/flavors", "/os-keypairs", "/os-aggregates")):
            known["name"] = uuid4().hex
        made = make(schema, known)
        return {action: None} if action and made == {} else made

    def held(self) -> str:
        """A volume that a server has."""
        self.server()
        return self.attached()

    def _new_server(self, version: str) -> Any:
        networks = "none" if parsed(version) >= (2, 37) else [{"uuid": NET}]
        return {"server": {"name": "made", "flavorRef": "1", "imageRef": self.cloud.image_id, "networks": networks}}

    def _address_of_server(self) -> str:
        return str(self.port()["fixed_ips"][0]["ip_address"])

    def _floated(self) -> str:
        """A floating address that the server has."""
        address = self.floating()["ip"]
        self.admin.post(f"/servers/{self._server}/action", {"addFloatingIp": {"address": address}}, version="2.43")
        return str(address)

    def _guarding(self) -> str:
        """A security group that the server is in."""
        name = self.group()["name"]
        assert self.cloud.act(str(self._server), "addSecurityGroup", {"name": name}).status == 202
        return str(name)


def _live(version: str) -> Any:
    if parsed(version) >= (2, 25):
        return LIVE
    return {"host": None, "block_migration": False, "disk_over_commit": False}


_BODIES: dict[tuple[str, str | None], Callable[[World, str], Any]] = {
    ("/servers", None): World._new_server,
    ("/os-volumes_boot", None): World._new_server,
    ("/servers/{}/metadata/{}", None): lambda world, version: {"meta": {"key": "w"}},
    ("/servers/{}/metadata", None): lambda world, version: {"metadata": {"key": "w"}},
    ("/images/{}/metadata/{}", None): lambda world, version: {"meta": {"key": "w"}},
    ("/flavors/{}/os-extra_specs/{}", None): lambda world, version: {"key": "w"},
    ("/os-aggregates/{}/action", "add_host"): lambda world, version: {"add_host": {"host": "cell1-host1"}},
    ("/os-aggregates/{}/action", "remove_host"): lambda world, version: {"remove_host": {"host": "cell1-host1"}},
    ("/os-aggregates/{}/images", None): lambda world, version: {"cache": [{"id": world.cloud.image_id}]},
    ("/servers/{}/action", "os-getConsoleOutput"): lambda world, version: {"os-getConsoleOutput": {}},
    ("/servers/{}/action", "os-migrateLive"): lambda world, version: {"os-migrateLive": _live(version)},
    ("/servers/{}/action", "evacuate"): lambda world, version: {
        "evacuate": {"onSharedStorage": False} if parsed(version) < (2, 14) else {}},
    ("/servers/{}/action", "addFixedIp"): lambda world, version: {"addFixedIp": {"networkId": NET}},
    ("/servers/{}/action", "removeFixedIp"): lambda world, version: {
        "removeFixedIp": {"address": world._address_of_server()}},
    ("/servers/{}/action", "addFloatingIp"): lambda world, version: {
        "addFloatingIp": {"address": world.floating()["ip"]}},
    ("/servers/{}/action", "removeFloatingIp"): lambda world, version: {
        "removeFloatingIp": {"address": world._floated()}},
    ("/servers/{}/action", "addSecurityGroup"): lambda world, version: {
        "addSecurityGroup": {"name": world.group()["name"]}},
    ("/servers/{}/action", "removeSecurityGroup"): lambda world, version: {
        "removeSecurityGroup": {"name": world._guarding()}},
    ("/servers/{}/os-interface", None): lambda world, version: {"interfaceAttachment": {"net_id": NET}},
    ("/servers/{}/os-volume_attachments", None): lambda world, version: {
        "volumeAttachment": {"volumeId": world.volume()}},
    ("/servers/{}/os-volume_attachments/{}", None): lambda world, version: {
        "volumeAttachment": {"volumeId": world.volume()}},
    ("/servers/{}/shares", None): lambda world, version: {"share": {"share_id": world.cloud.share()}},
    ("/os-floating-ips", None): lambda world, version: {"pool": "public"},
    ("/os-security-group-rules", None): lambda world, version: world.rule(),
    ("/os-assisted-volume-snapshots", None): lambda world, version: {"snapshot": {
        "volume_id": world.held(), "create_info": {"snapshot_id": str(uuid4()), "type": "qcow2", "new_file": "file"}}},
    ("/os-snapshots", None): lambda world, version: {"snapshot": {"volume_id": world.volume()}},
    ("/os-server-external-events", None): lambda world, version: {
        "events": [{"name": "network-changed", "server_uuid": world.server(), "tag": world.port()["port_id"]}]},
    ("/os-services/{}", None): lambda world, version: (
        {"status": "enabled"} if parsed(version) >= (2, 53) else {"host": "cell1-host2", "binary": "nova-compute"}),
}  # fmt: skip
