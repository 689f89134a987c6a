"""Things of a project whose names and values carry a mark that nobody else may ever see."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cell_service.context import SYSTEM_CLOCK, Context, Deadline
from cell_service.peers.volumes import NewVolume
from tests.surface.fuzz import MARK
from tests.surface.world import SSH_KEY, World


@dataclass(frozen=True)
class Foreign:
    """What is there, by the collection that it stands in."""

    ids: dict[str, str]

    def path(self, path: str) -> str:
        """The path with these things in it; where there is none, the mark."""
        parts = path.split("/")
        for at, part in enumerate(parts):
            if part.startswith("{"):
                parts[at] = self.ids.get(parts[at - 1], MARK)
        return "/".join(parts)


def foreign_things(world: World) -> Foreign:
    """A server with metadata, tags and a volume, a key, a group and usage, all of a project of their own."""
    cloud = world.cloud
    owner = cloud.user("zoe", f"{MARK}-project")
    held = owner.get("/os-server-groups").json["server_groups"]
    if held:  # made before
        (server,) = (each["id"] for each in owner.get("/servers").json["servers"])
        return _known(world, server, held[0]["id"])
    key = {"keypair": {"name": f"{MARK}-key", "public_key": SSH_KEY}}
    assert owner.post("/os-keypairs", key).status == 200
    group = {"server_group": {"name": f"{MARK}-group", "policies": ["affinity"]}}
    made = owner.post("/os-server-groups", group)
    server = cloud.boot(owner, name=f"{MARK}-server", key_name=f"{MARK}-key", metadata={f"{MARK}-key": f"{MARK}-value"},
                        tags=[f"{MARK}-tag"], description=f"{MARK}-description")  # fmt: skip
    return _known(world, server, made.json["server_group"]["id"])


def _known(world: World, server: str, group: str) -> Foreign:
    cloud = world.cloud
    ctx = Context("req-foreign", is_admin=True, deadline=Deadline.after(20, SYSTEM_CLOCK))
    volume = cloud.volumes.create(ctx, NewVolume(f"{MARK}-project", 1, name=f"{MARK}-volume"))
    return Foreign({
        "servers": server, "os-keypairs": f"{MARK}-key", "os-server-groups": group, "metadata": f"{MARK}-key",
        "tags": f"{MARK}-tag", "os-quota-sets": f"{MARK}-project", "os-simple-tenant-usage": f"{MARK}-project",
        "os-volumes": volume.id, "os-volume_attachments": volume.id, "os-volumes_boot": server,
    })  # fmt: skip


def marked(raw: bytes) -> list[str]:
    """The marked words in an answer."""
    return sorted(set(re.findall(rf"{MARK}-\w+", raw.decode("utf-8", "replace"))))
