"""A cloud in which the published samples can be acted out: something of every kind, in the state that each needs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from api_cell.config import Quota
from cell_service.consoles.config import ConsoleSettings, SerialConsole, Spice
from cell_service.model.instance import Flavor
from mapping_db import flavors
from tests.edge import reference
from tests.edge.client import Client, Reply
from tests.federation.cloud import Federation
from tests.suites.peers import NET, SUBNET, WITH_AGENT
from tests.surface.samples import Exchange, filled, fresh

SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGjW2DMVvlm6bKzj5LnHGBJYQCXSm8xGLBOCyOnGxJSP ann@example"
UNBOUND = Quota(instances=-1, cores=-1, ram=-1, key_pairs=-1, server_groups=-1)
CONSOLES = ConsoleSettings(serial=SerialConsole(enabled=True), spice=Spice(enabled=True))
LIVE = ("os-migrateLive", {"host": None, "block_migration": "auto"})
BEFORE: Mapping[str, tuple[tuple[str, Any], ...]] = {
    "server-get-resp-rescue": (("rescue", None),),
    "server-resume": (("suspend", None),),
    "unlock-server": (("lock", None),),
    "server-unrescue": (("rescue", None),),
    "server-action-start": (("os-stop", None),),
    "server-action-confirm-resize": (("resize", {"flavorRef": "2"}),),
    "server-action-revert-resize": (("resize", {"flavorRef": "2"}),),
    "server-shares": (("os-stop", None),),
    "restore": (("delete", None),),
    "force_complete": (LIVE,),
    "server-action-removefloatingip": (("addFloatingIp", {"address": "203.0.113.7"}),),
    "security-group-remove": (("addSecurityGroup", {"name": "test"}),),
}
"""Start of a sample's file name → what its server goes through first."""
SILENT = (
    "os-services/v2.69/",
    "servers/v2.69/server-get",
    "servers/v2.69/servers-",
    "servers/v2.71/server-get-down-cell",
)
"""Starts of the samples of what is told of a cell that does not answer."""

OF_EVERY_SERVER = ("/servers", "/os-simple-tenant-usage")


class Gallery:
    """One cell with two hosts, and one without servers. Reads ask about a server that stays, all else gets a new one.

    A method `_collection` answers an id in that collection, for paths.
    """

    def __init__(self, directory: Path) -> None:
        self.cloud = Federation(directory, cells=1, hosts=3, quota=UNBOUND, reclaim=3600, move_seconds=0,
                                live_seconds=600, host_boot_seconds=0, consoles=CONSOLES)  # fmt: skip
        self.cloud.image_id = self.cloud.images.add(properties=WITH_AGENT)
        self.admin: Client = self.cloud.admin
        self.member = self.cloud.user("demo", "admin-project")
        self.cloud.db.run(lambda tx: flavors.insert_flavor(tx, Flavor("2", "f2", 1, 64, 1), self.cloud.clock.now()))
        self._server: str | None = None
        self._kept: str | None = None
        self._moving: str | None = None
        self._exchange: Exchange | None = None
        self.cloud.spare("cell1-host3")
        self._furnish()
        self._kept = self._server

    def close(self) -> None:
        self.cloud.close()

    def _furnish(self) -> None:
        """Make what lists show."""
        cloud, admin = self.cloud, self.admin
        records = cloud.networks.records
        records.add("networks", id=NET, name="net", project_id="admin-project", shared=True)
        records.add("networks", name="public", project_id="admin-project", shared=True, **{"router:external": True})
        records.add("floatingips", floating_ip_address="203.0.113.7", project_id="admin-project", port_id=None,
                    floating_network_id=NET, fixed_ip_address=None)  # fmt: skip
        records.add("subnets", id=SUBNET, network_id=NET)
        admin.post("/os-security-groups", {"security_group": {"name": "test", "description": "d"}})
        admin.post("/os-security-groups", {"security_group": {"name": "default", "description": "d"}})
        admin.post("/os-keypairs", {"keypair": {"name": "new-key", "public_key": SSH_KEY}})
        group = {"name": "g", "policy": "affinity"}
        made = admin.post("/os-server-groups", {"server_group": group}, version="2.64")
        self.group = made.json["server_group"]["id"]
        volume, self.volume = (
            admin.post("/os-volumes", {"volume": {"size": 1}}).json["volume"]["id"] for _ in range(2)
        )
        for _ in range(2):
            admin.post("/os-snapshots", {"snapshot": {"volume_id": volume}})
            self.server()
            self._server = None
        admin.post("/flavors/1/os-extra_specs", {"extra_specs": {"hw:numa_nodes": "1"}})
        aggregate = self._os_aggregates()
        admin.post(f"/os-aggregates/{aggregate}/action", {"add_host": {"host": "cell1-host1"}})
        self.cloud.act(self.server(), *LIVE)
        self.cloud.until(self._under_way)
        self._moving, self._server = self._server, None
        for user in ("user1", "user2"):
            for _ in range(2):
                key = {"name": fresh(), "public_key": SSH_KEY, "type": "ssh", "user_id": user}
                admin.post("/os-keypairs", {"keypair": key}, version="2.10")
        self.cloud.act(self.server(), "resize", {"flavorRef": "2"})
        self.cloud.settled(self.server())
        self.cloud.act(self.server(), "confirmResize")
        self.cloud.settled(self.server())
        attachment = {"volumeAttachment": {"volumeId": volume}}
        assert admin.post(f"/servers/{self.server()}/os-volume_attachments", attachment).status == 200
        assert self.cloud.act(self.server(), "addSecurityGroup", {"name": "test"}).status == 202

    def values(self) -> dict[str, Callable[[], Any]]:
        """What stands in a request for a sample's value, by the name of its key."""
        images = self.cloud.images
        return {
            "imageRef": lambda: self.cloud.image_id,
            "rescue_image_ref": lambda: images.add(b"rescue", properties={"hw_rescue_bus": "virtio"}),
            "flavorRef": lambda: "1",
            "resize.flavorRef": lambda: "2",
            "host": lambda: "cell1-host2",
            "evacuate.host": self._elsewhere,
            "os-migrateLive.host": self._elsewhere,
            "removeFixedIp.address": self._fixed,
            "events.name": lambda: "network-changed",
            "add_host.host": lambda: "cell1-host1",
            "remove_host.host": lambda: "cell1-host1",
            "hypervisor_hostname": lambda: "cell1-host2",
            "server.availability_zone": lambda: "nova",
            "networks.uuid": lambda: NET,
            "block_device_mapping_v2.uuid": lambda: self.cloud.image_id,
            "block_device_mapping_v2.volume_type": lambda: None,
            "cache.id": lambda: self.cloud.image_id,
            "net_id": lambda: NET,
            "networkId": lambda: NET,
            "port_id": lambda: self.cloud.networks.add_port(),
            "server_uuid": self.server,
            "volume_id": lambda: self.volume,
            "tenant": lambda: "made",
            "group": lambda: self.group,
            "same_host": self.server,
            "parent_group_id": self._group_id,
            "public_key": lambda: SSH_KEY,
            "share_id": self._share_id,
            "security_group.name": fresh,
            "fixed_address": self._fixed,
            "flavor.id": fresh,
            "flavor.name": fresh,
            "keypair.name": fresh,
            "aggregate.name": fresh,
            "addFloatingIp.address": self._floating,
            "removeFloatingIp.address": self._floating,
        }

    def act_out(self, exchange: Exchange) -> Reply:
        """Send what the sample says, to things that are as it needs them."""
        self._server = self._kept if exchange.method == "GET" else None
        if exchange.method == "GET" and exchange.path.startswith("/servers/{server_id}/migrations"):
            self._server = self._moving
        self._exchange = exchange
        self._prepare(exchange)
        path = self._path(exchange.path)
        body = {exchange.action: None} if exchange.action else None
        if exchange.request is not None:
            body = filled(reference.sample(exchange.request), self.values())
        with self._around(exchange):
            by = self.member if exchange.by_member else self.admin
            query = exchange.query
            if (exchange.response or "").startswith("os-services/v2.69/"):  # which shows no services but compute's
                query = "?binary=nova-compute"
            reply = by.request(exchange.method, path + query, body, version=exchange.version)
        self._clear(reply)
        if exchange.method == "PUT" and exchange.path.startswith("/os-services"):
            for host in ("cell1-host1", "cell1-host2"):
                self._force(host, False)
                self.admin.put("/os-services/enable", {"host": host, "binary": "nova-compute"})
        return reply

    def _clear(self, reply: Reply) -> None:
        """Servers that were made for one sample make room for the next."""
        made = reply.json.get("server", {}).get("id") if reply.status == 202 and reply.raw else None
        for server in {self._server, made} - {self._kept, self._moving, None}:
            self.cloud.act(str(server), "forceDelete")

    def _path(self, published: str) -> str:
        """The path with things in it that are there."""
        collection, made = "", []
        for segment in published.split("/"):
            if segment.startswith("{"):
                made.append(str(getattr(self, "_" + collection.replace("-", "_"))()))
            else:
                collection = segment
                made.append(segment)
        return quote("/".join(made))

    @contextlib.contextmanager
    def _around(self, exchange: Exchange) -> Iterator[None]:
        """What is so only while the request is made: the cell is silent, the server's host is down."""
        if (exchange.response or "").startswith(SILENT):
            self.cloud.silence("cell1")
            yield
            self.cloud.wake("cell1")
        elif exchange.action == "evacuate":
            host = self.cloud.show(self.server())["OS-EXT-SRV-ATTR:host"]
            self._force(host, True)
            yield
            self.cloud.settled(self.server())
            self._force(host, False)
        else:
            yield

    def _force(self, host: str, down: bool) -> None:
        body = {"host": host, "binary": "nova-compute", "forced_down": down}
        assert self.admin.put("/os-services/force-down", body, version="2.11").status == 200

    def _alone(self) -> bool:
        """Whether only the servers that stay are left; others are told to go."""
        every = [
            each
            for query in ("", "?status=soft_deleted")
            for each in self.admin.get("/servers" + query).json["servers"]
        ]
        found = {each["id"] for each in every} - {self._kept, self._moving}
        for server in found:
            self.cloud.act(server, "forceDelete")
        return not found

    def _prepare(self, exchange: Exchange) -> None:
        if (
            exchange.path.startswith(OF_EVERY_SERVER)
            and exchange.method == "GET"
            and "{server_id}" not in exchange.path
        ):
            self.cloud.until(self._alone)
        file = exchange.name.rpartition("/")[2]
        steps = next((steps for start, steps in BEFORE.items() if file.startswith(start)), ())
        if steps:
            self._server = None
        for action, content in steps:
            if action == "delete":
                self.admin.delete(f"/servers/{self.server()}")
            else:
                asked = self.admin.post(f"/servers/{self.server()}/action", {action: content}, version="2.35")
                assert asked.status in (200, 202), asked.raw
            if action == "os-migrateLive":
                self.cloud.until(self._under_way)
            else:
                self.cloud.settled(self.server())
        if file.startswith("server-shares-list"):
            self.cloud.shared(self.server())

    def _share_id(self) -> str:
        """A new share; for what is to be refused, one that the server has already."""
        at = self._exchange
        return self.cloud.shared(self.server()) if at is not None and at.status == 409 else self.cloud.share()

    def _under_way(self) -> bool:
        found = self.admin.get(f"/servers/{self._server}/migrations", version="2.23").json["migrations"]
        return [each["status"] for each in found] == ["running"] and bool(found[0]["memory_total_bytes"])

    def server(self) -> str:
        if self._server is None:
            self._server = self.cloud.boot(
                metadata={"key": "v"}, tags=["t"], networks="auto", key_name="new-key", user_data="aGVsbG8=",
                security_groups=[{"name": "default"}], hints={"group": self.group} if self._grouped() else None,
            )  # fmt: skip
        return self._server

    def _grouped(self) -> bool:
        """Whether a new server is in the group: samples of the version that shows groups have one."""
        at = self._exchange
        return self._moving is not None if at is None else at.version == "2.71"

    def _servers(self) -> str:
        return self.server()

    def _flavors(self) -> str:
        """The flavor `1`, or one of its own to change."""
        at = self._exchange
        assert at is not None
        if at.method == "GET" and "access" not in at.path:
            return "1"
        wanted = {"name": fresh(), "ram": 64, "vcpus": 1, "disk": 1, "os-flavor-access:is_public": False}
        made: str = self.admin.post("/flavors", {"flavor": wanted}).json["flavor"]["id"]
        self.admin.post(f"/flavors/{made}/os-extra_specs", {"extra_specs": {"hw:numa_nodes": "1"}})
        if at.action != "addTenantAccess" or at.status == 409:
            self.admin.post(f"/flavors/{made}/action", {"addTenantAccess": {"tenant": "made"}})
        return made

    def _os_keypairs(self) -> str:
        return "new-key"

    def _os_aggregates(self) -> str:
        """An aggregate with a host, where the sample does not add one or name another zone."""
        made = self.admin.post("/os-aggregates", {"aggregate": {"name": fresh(), "availability_zone": "nova"}})
        number = str(made.json["aggregate"]["id"])
        at = self._exchange
        if at is None or (at.action != "add_host" and at.method != "PUT"):
            self.admin.post(f"/os-aggregates/{number}/action", {"add_host": {"host": "cell1-host1"}})
        return number

    def _os_services(self) -> str:
        at = self._exchange
        assert at is not None
        if reference.parsed(at.version) < (2, 53):
            return at.name.rpartition("/")[2].removeprefix("service-").partition("-put")[0].replace(
                "disable-log", "disable-log-reason")  # fmt: skip
        every = self.admin.get("/os-services", version="2.53").json["services"]
        return next(str(each["id"]) for each in every if each["binary"] == "nova-compute")

    def _os_simple_tenant_usage(self) -> str:
        return "admin-project"

    def _os_hosts(self) -> str:
        """A host without servers where it is switched."""
        at = self._exchange
        if at is None or (at.method == "GET" and at.path.count("/") == 2):
            return "cell1-host2"
        self.admin.get("/os-hosts/cell1-host3/startup", version="2.42")
        return "cell1-host3"

    def _extensions(self) -> str:
        return "os-keypairs"

    def _os_instance_usage_audit_log(self) -> str:
        return "2026-01-01 00:00:00"

    def _metadata(self) -> str:
        name = "foo"
        self.admin.post(f"/servers/{self._server}/metadata", {"metadata": {name: "v"}})
        return name

    def _os_instance_actions(self) -> str:
        done = self.admin.get(f"/servers/{self._server}/os-instance-actions").json["instanceActions"]
        return str(done[-1]["request_id"])

    def _os_extra_specs(self) -> str:
        return "hw:numa_nodes"

    def _os_interface(self) -> str:
        ports = self.admin.get(f"/servers/{self._server}/os-interface").json["interfaceAttachments"]
        return str(ports[0]["port_id"])

    def _os_quota_sets(self) -> str:
        return "sample-project"

    def _os_quota_class_sets(self) -> str:
        return "sample-class"

    def _os_server_groups(self) -> str:
        wanted = {"name": "g", "policy": "anti-affinity", "rules": {"max_server_per_host": 3}}
        made: str = self.admin.post("/os-server-groups", {"server_group": wanted}, version="2.64").json[
            "server_group"]["id"]  # fmt: skip
        return made

    def _os_security_groups(self) -> str:
        return self._group_id()

    def _os_snapshots(self) -> str:
        return str(self.admin.get("/os-snapshots").json["snapshots"][0]["id"])

    def _os_console_auth_tokens(self) -> str:
        wanted = {"remote_console": {"protocol": "serial", "type": "serial"}}
        made = self.admin.post(f"/servers/{self.server()}/remote-consoles", wanted, version="2.31").json
        return str(made["remote_console"]["url"].rpartition("token=")[2])

    def _shares(self) -> str:
        return self.cloud.shared(str(self._server))

    def _migrations(self) -> str:
        found = self.admin.get(f"/servers/{self._server}/migrations", version="2.23").json["migrations"]
        return str(found[0]["id"]) if found else "1"

    def _fixed(self) -> str:
        (addresses,) = self.cloud.show(self.server())["addresses"].values()
        return str(addresses[0]["addr"])

    def _elsewhere(self) -> str:
        here = self.cloud.show(self.server())["OS-EXT-SRV-ATTR:host"]
        return "cell1-host1" if here == "cell1-host2" else "cell1-host2"

    def _group_id(self) -> str:
        groups = self.admin.get("/os-security-groups").json["security_groups"]
        return str(groups[0]["id"])

    def _floating(self) -> str:
        return "203.0.113.7"
