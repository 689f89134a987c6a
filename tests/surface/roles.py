"""Callers of every kind, and what the published rules say of each; `python -m` prints who was let through where."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from oslo_config import cfg
from oslo_policy import policy as oslo

from api_cell.app import ApiServer, make_compute_app
from api_cell.edge.auth import Identity
from cell_service.errors import Unauthenticated
from tests.edge import reference
from tests.edge.client import Client
from tests.surface.report import USING_UP, say
from tests.surface.world import Row, World, rows

PROJECT = "admin-project"
ROLES = {
    "admin": ("admin", "manager", "member", "reader"),
    "manager": ("manager", "member", "reader"),
    "member": ("member", "reader"),
    "reader": ("reader",),
    "service": ("service",),
    "stranger": ("manager", "member", "reader"),
    "system-admin": ("admin", "manager", "member", "reader"),
    "system-reader": ("reader",),
    "domain-admin": ("admin", "manager", "member", "reader"),
    "domain-reader": ("reader",),
    "nobody": (),
}
"""Who asks, and with which roles. The stranger has theirs in another project; tokens of a system or a domain are for no
project at all."""


class RoleAuth:
    """The token is the name of one of ROLES."""

    challenge = 'Keystone uri=""'

    def authenticate(self, token: str, service_token: str | None) -> Identity:
        if token not in ROLES:
            raise Unauthenticated()
        scope = token.partition("-")[0]
        if scope == "system":
            return Identity(f"{token}-user", "", ROLES[token], system_scope="all")
        if scope == "domain":
            return Identity(f"{token}-user", "", ROLES[token], domain_scope="default")
        return Identity(f"{token}-user", "elsewhere" if token == "stranger" else PROJECT, ROLES[token])


def decisions(row: Row, who: str) -> set[bool]:
    """What the rules that may refuse this row say of a caller who asks about a thing of PROJECT."""
    rules = [policy["rule"] for policy in row.data["policies"] if policy["effect"] == "deny"]
    return {allowed(rule, who) for rule in rules}


def allowed(rule: str, who: str) -> bool:
    """What a published rule says of a caller, about a thing of PROJECT that is the admin's own."""
    if "-" in who:  # a token for no project
        return "project" not in (_published()[rule]["scope_types"] or ["project"])
    own = "elsewhere" if who == "stranger" else PROJECT
    credentials: dict[str, Any] = {"roles": list(ROLES[who]), "project_id": own, "user_id": f"{who}-user"}
    credentials["is_admin"] = who == "admin"
    return bool(_enforce()(rule, {"project_id": PROJECT, "user_id": "admin"}, credentials))


@cache
def _published() -> dict[str, dict[str, Any]]:
    return {row["rule"]: row for row in json.loads((reference.FOLDER / "policies.json").read_text())}


@cache
def _enforce() -> Callable[..., Any]:
    conf = cfg.ConfigOpts()
    conf(args=[], project="nova", default_config_files=[], default_config_dirs=[])
    enforcer: Any = oslo.Enforcer(conf, use_conf=False)
    rules = {name: row["check_str"] for name, row in _published().items()}
    enforcer.set_rules(oslo.Rules.from_dict(rules), use_conf=False)
    enforce: Callable[..., Any] = enforcer.enforce
    return enforce


@contextmanager
def callers(world: World) -> Iterator[dict[str, Client]]:
    """A client for each of ROLES, all of them on the world's cloud."""
    server = ApiServer(make_compute_app(world.cloud.cloud, world.cloud.services, world.cloud.settings, RoleAuth()))
    server.start()
    made = {who: Client(server.port, token=who) for who in ROLES}
    try:
        yield made
    finally:
        for client in made.values():
            client.close()
        server.drain(2)


def answers(world: World, clients: dict[str, Client], row: Row) -> dict[str, int]:
    """What each caller is answered, at the last version of the row, to a request that an administrator is granted.
    It is made ready anew only after it was granted."""
    found, version = {}, row.versions[-1]
    ready: tuple[str, Any] | None = None
    for who, client in clients.items():
        ready = ready or (world.path(row, version), world.body(row, version))
        found[who] = client.request(row.data["method"], *ready, version=version).status
        if found[who] < 300:
            ready = None
            if row.data["method"] == "DELETE" or row.key[2] in USING_UP:
                world.reset()
    world.put_back(row)
    return found


def main() -> None:
    """Print a line for each row: the status that each caller was answered."""
    with tempfile.TemporaryDirectory() as directory:
        world = World(Path(directory))
        try:
            with callers(world) as clients:
                say("| route | " + " | ".join(ROLES) + " |\n| --- |" + " --- |" * len(ROLES))
                for row in rows():
                    if not row.data["removed"]:
                        say(f"| {row.name} | " + " | ".join(map(str, answers(world, clients, row).values())) + " |")
        finally:
            world.close()


if __name__ == "__main__":
    main()
