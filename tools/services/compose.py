"""Composing the parts of a process from its configuration files. A role's module is imported only where the role is:
each process stays small."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cell_service.config import load
from cell_service.errors import Invalid
from cell_service.http.connections import read_connections
from tools.services.part import Part
from tools.services.shared import Listen, Shared

API_PORTS = {"api": 8774, "placement": 8778, "identity": 5000, "image": 9292, "network": 9696, "volume": 8776,
             "share": 8786, "key-manager": 9311}  # fmt: skip
ROLES = (*API_PORTS, "metadata", "super-conductor", "conductor", "compute", "console", "queue")


@dataclass(frozen=True, slots=True)
class Composer:
    """Builds the parts that the same files describe; parts of one process share its connections to the cloud."""

    files: Sequence[str]
    shared: Shared = field(default_factory=Shared)

    def part(self, role: str, *, host: str = "", port: int = 0, address: str = "", reuse_port: bool = False) -> Part:
        """The service of that role. `host` in place of the files'; `port` and `address` where it listens.

        Raises Invalid for what the files lack or get wrong.
        """
        conf = load(self.files)
        connections = read_connections(conf)
        listen = Listen(port, address, reuse_port, connections)
        public = Listen(port or API_PORTS.get(role, 0), address or "127.0.0.1", reuse_port, connections)
        match role:
            case "api":
                from tools.services.roles import api

                return api.make(conf, self.shared, public)
            case "placement":
                from tools.services.roles import placement

                return placement.make(conf, self.shared, public)
            case "metadata":
                from tools.services.roles import metadata

                return metadata.make(conf, self.shared, listen)
            case "identity" | "image" | "network" | "volume" | "share" | "key-manager":
                from tools.services.roles import companions

                return companions.make(conf, self.shared, public, role)
            case "super-conductor":
                from tools.services.roles import super_conductor

                return super_conductor.make(conf, self.shared)
            case "conductor":
                from tools.services.roles import conductor

                return conductor.make(conf, self.shared, host)
            case "compute":
                return self.fleet([host] if host else [])
            case "console":
                from tools.services.roles import console

                return console.make(conf, self.shared, listen)
            case "queue":
                from tools.services.roles import queue

                return queue.make(conf)
        raise Invalid(reason=f"There is no role {role!r}; there are {', '.join(ROLES)}.")

    def fleet(self, hosts: Sequence[str]) -> Part:
        """Several compute hosts of one cell in this process."""
        from tools.services.roles import compute

        return compute.make(load(self.files), self.shared, hosts)
