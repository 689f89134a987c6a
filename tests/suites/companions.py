"""A cloud's companions in this process, each on a port of its own, and ways to talk to them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openstack
import requests

from api_cell.edge.keystone import Keystone
from cell_service.context import SYSTEM_CLOCK, Clock
from cell_service.peers.settings import GlanceSettings, KeystoneAuthtoken, NeutronSettings, PeerSettings
from tools.companions.app import Companion
from tools.companions.identity.service import IdentitySettings, Seed, make_identity, seed
from tools.companions.image.service import make_image
from tools.companions.network.service import make_network

PASSWORDS = {name: f"{name}-secret" for name in ("admin", "demo", "nova", "glance", "neutron", "placement")}
QUICK = IdentitySettings(password_rounds=4)
REGION = "RegionOne"


@dataclass
class Companions:
    """Identity, image and network service; `state` is their directory."""

    identity: Companion
    image: Companion
    network: Companion
    state: Path

    def sdk(self, user: str = "admin", project: str = "admin", **more: Any) -> Any:
        return openstack.connect(
            load_yaml_config=False,
            load_envvars=False,
            auth_url=self.identity.url,
            username=user,
            password=more.pop("password", PASSWORDS.get(user)),
            project_name=project,
            user_domain_name="Default",
            project_domain_name="Default",
            region_name=REGION,
            **more,
        )

    def peer(self, kind: type[PeerSettings], **more: Any) -> Any:
        """Settings for a client with the compute service's account."""
        known = {"auth_url": f"{self.identity.url}/v3", "username": "nova", "password": PASSWORDS["nova"]}
        account = {name: more.pop(name, value) for name, value in known.items()}
        return kind(**({"account": account, "region_name": REGION} | more))

    @property
    def glance(self) -> GlanceSettings:
        settings: GlanceSettings = self.peer(GlanceSettings)
        return settings

    @property
    def neutron(self) -> NeutronSettings:
        settings: NeutronSettings = self.peer(NeutronSettings)
        return settings

    def token(self, user: str = "admin", project: str | None = "admin") -> str:
        """A token, asked for by hand."""
        return log_in(self.identity.url, user, PASSWORDS[user], project).headers["X-Subject-Token"]

    def close(self) -> None:
        for companion in (self.network, self.image, self.identity):
            companion.drain(0)


def log_in(url: str, user: str, password: str, project: str | None) -> requests.Response:
    domain = {"id": "default"}
    auth: dict[str, Any] = {
        "identity": {
            "methods": ["password"],
            "password": {"user": {"name": user, "domain": domain, "password": password}},
        }
    }
    if project is not None:
        auth["scope"] = {"project": {"name": project, "domain": domain}}
    return requests.post(f"{url}/v3/auth/tokens", json={"auth": auth}, timeout=10)


def start_companions(state: Path, settings: IdentitySettings = QUICK, clock: Clock = SYSTEM_CLOCK) -> Companions:
    identity = make_identity(state, settings, clock)
    identity.start()

    def tokens(user: str) -> Keystone:
        return Keystone(
            KeystoneAuthtoken(account={"auth_url": identity.url, "username": user, "password": PASSWORDS[user]})
        )

    image = make_image(state, tokens("glance"))
    network = make_network(state, tokens("neutron"))
    image.start()
    network.start()
    endpoints = {"identity": f"{identity.url}/v3", "image": image.url, "network": network.url}
    seed(state, Seed(PASSWORDS, endpoints, REGION), settings)
    return Companions(identity, image, network, state)
