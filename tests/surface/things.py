"""Things of every kind for requests to speak of: each made when it is asked for, by its collection."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from cell_service.context import SYSTEM_CLOCK, Context, Deadline
from cell_service.db import services
from cell_service.peers.volumes import NewVolume
from mapping_db import moves
from tests.edge.client import Client
from tests.edge.reference import parsed
from tests.federation.cloud import Federation
from tests.suites.peers import NET, SUBNET
from tests.surface.published import Row

SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGjW2DMVvlm6bKzj5LnHGBJYQCXSm8xGLBOCyOnGxJSP ann@example"
PROJECT = "admin-project"
OLD = "2.1"


class Things:
    """A method for each collection answers an id in it. `_server` is the server that the path speaks of."""

    cloud: Federation
    admin: Client
    lasting: bool = False
    """Whether live migrations take so long that they can be seen."""
    _server: str | None = None

    def ctx(self) -> Context:
        return Context("req-world", is_admin=True, deadline=Deadline.after(20, SYSTEM_CLOCK))

    def quiet(self) -> None:
        """Nothing is under way any more."""
        self.cloud.until(lambda: not self.cloud.unfinished() and not self._moving())

    def _moving(self) -> bool:
        with self.cloud.db.connect() as tx:
            return bool(moves.unfinished(tx, limit=1))

    def volume(self) -> str:
        return self.cloud.volumes.create(self.ctx(), NewVolume(PROJECT, 1)).id

    def attached(self, volume_id: str | None = None) -> str:
        """A volume that the server has."""
        held = volume_id or self.volume()
        body = {"volumeAttachment": {"volumeId": held}}
        answer = self.admin.post(f"/servers/{self._server}/os-volume_attachments", body, version="2.60")
        assert answer.status == 200, answer.raw
        self.quiet()
        return held

    def port(self) -> dict[str, Any]:
        """The server's first interface."""
        ports = self.admin.get(f"/servers/{self._server}/os-interface").json["interfaceAttachments"]
        found: dict[str, Any] = ports[0]
        return found

    def floating(self) -> dict[str, Any]:
        """A floating address of the project."""
        made = self.admin.post("/os-floating-ips", {"pool": "public"}, version=OLD).json["floating_ip"]
        return {"id": made["id"], "ip": made["ip"]}

    def group(self) -> dict[str, Any]:
        """A security group of the project."""
        body = {"security_group": {"name": uuid4().hex, "description": "made"}}
        made: dict[str, Any] = self.admin.post("/os-security-groups", body, version=OLD).json["security_group"]
        return made

    def rule(self) -> dict[str, Any]:
        """The body of a new rule."""
        values = {"ip_protocol": "tcp", "from_port": 22, "to_port": 22, "cidr": "192.0.2.0/24"}
        return {"security_group_rule": {"parent_group_id": self.group()["id"], **values}}

    # -- by collection ----------------------------------------------------------------------------

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
            made = self.cloud.cells.open(self.cloud.ids["cell1"]).db.run(
                lambda tx: services.register(tx, host=uuid4().hex, binary="nova-scheduler", topic="made", version=1,
                                             now=SYSTEM_CLOCK.now()), Deadline.after(10))  # fmt: skip
            return made.uuid if parsed(version) >= (2, 53) else str(made.id)
        if parsed(version) < (2, 53):
            return "enable"
        every = self.admin.get("/os-services", version="2.53").json["services"]
        return next(each["id"] for each in every if each["binary"] == "nova-compute")

    def _os_hypervisors(self, row: Row, version: str) -> str:
        if row.data["path"].endswith(("/search", "/servers")):
            return "cell1"
        return str(self.admin.get("/os-hypervisors", version=version).json["hypervisors"][0]["id"])

    def _os_quota_sets(self, row: Row, version: str) -> str:
        return PROJECT

    def _os_quota_class_sets(self, row: Row, version: str) -> str:
        return "default"

    def _os_simple_tenant_usage(self, row: Row, version: str) -> str:
        return PROJECT

    def _shares(self, row: Row, version: str) -> str:
        return self.cloud.shared(str(self._server))

    def _os_hosts(self, row: Row, version: str) -> str:
        """A host without servers, which is on."""
        self.admin.get("/os-hosts/cell1-host3/startup", version=OLD)
        return "cell1-host3"

    def _extensions(self, row: Row, version: str) -> str:
        return "os-keypairs"

    def _tags(self, row: Row, version: str) -> str:
        return "other" if row.data["method"] == "PUT" else "t"

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
        return "net"

    def _images(self, row: Row, version: str) -> str:
        return self.cloud.images.add(visibility="private", owner=PROJECT, properties={"key": "v"})

    def _os_instance_usage_audit_log(self, row: Row, version: str) -> str:
        return "2026-01-01 00:00:00"

    _os_instance_usage_audit_log_ = _os_instance_usage_audit_log

    def _os_volumes(self, row: Row, version: str) -> str:
        return self.volume()

    def _os_snapshots(self, row: Row, version: str) -> str:
        body = {"snapshot": {"volume_id": self.volume(), "force": True}}

        def taken() -> str | bool:  # a block storage service with much to do refuses some
            made = self.admin.post("/os-snapshots", body, version=OLD)
            return str(made.json["snapshot"]["id"]) if made.status == 200 else False

        return str(self.cloud.until(taken))

    def _os_networks(self, row: Row, version: str) -> str:
        return NET

    _os_tenant_networks = _os_networks

    def _os_security_groups(self, row: Row, version: str) -> str:
        return str(self.group()["id"])

    def _os_security_group_rules(self, row: Row, version: str) -> str:
        made = self.admin.post("/os-security-group-rules", self.rule(), version=OLD)
        return str(made.json["security_group_rule"]["id"])

    def _os_floating_ips(self, row: Row, version: str) -> str:
        return str(self.floating()["id"])

    def _os_interface(self, row: Row, version: str) -> str:
        return str(self.port()["port_id"])

    def _os_volume_attachments(self, row: Row, version: str) -> str:
        return self.attached()

    def _os_console_auth_tokens(self, row: Row, version: str) -> str:
        body = {"remote_console": {"protocol": "serial", "type": "serial"}}
        made = self.admin.post(f"/servers/{self.server()}/remote-consoles", body, version="2.8")
        return str(made.json["remote_console"]["url"]).rpartition("token=")[2]

    def _migrations(self, row: Row, version: str) -> str:
        """A live migration that takes long, where servers take long to migrate."""
        if not self.lasting:
            return str(uuid4())
        asked = {"host": None, "block_migration": "auto"}
        assert self.cloud.act(str(self._server), "os-migrateLive", asked).status == 202
        path = f"/servers/{self._server}/migrations"

        def sent() -> Any:
            found = self.admin.get(path, version="2.96").json["migrations"]
            return found and found[0]["memory_total_bytes"] and found[0]["id"]

        return str(self.cloud.until(sent))

    def server(self) -> str:
        raise NotImplementedError


def furnish(cloud: Federation) -> None:
    """Networks to show and to take addresses from."""
    records = cloud.networks.records
    records.add("networks", id=NET, name="net", project_id=PROJECT, shared=True)
    records.add("networks", name="public", project_id=PROJECT, shared=False, **{"router:external": True})
    records.add("subnets", id=SUBNET, network_id=NET)
