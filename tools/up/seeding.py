"""The flavors, images and the network of a new cloud for its first user. Done again, it adds only what is missing."""

from __future__ import annotations

from typing import Any

import keystoneauth1.session
from keystoneauth1 import token_endpoint
from keystoneauth1.identity import v3

from cell_service.context import SYSTEM_CLOCK
from cell_service.db.sql.engine import Database
from cell_service.errors import FlavorExists, FlavorIdExists, PeerUnavailable
from cell_service.model.instance import Flavor
from mapping_db import flavors
from tools.up.configs import credentials, verified_by
from tools.up.plan import GLOBAL, Plan
from tools.up.seed_images import upload_images

FLAVORS = (
    Flavor("42", "m1.nano", 1, 64, 1),
    Flavor("84", "m1.micro", 1, 128, 1),
    Flavor("1", "m1.tiny", 1, 512, 1),
    Flavor("2", "m1.small", 1, 2048, 20),
    Flavor("3", "m1.medium", 2, 4096, 40),
    Flavor("4", "m1.large", 4, 8192, 80),
    Flavor("5", "m1.xlarge", 8, 16384, 160),
)
NETWORK, CIDR = "private", "10.20.0.0/16"


def seed(plan: Plan) -> None:
    """Raises PeerUnavailable, DatabaseUnavailable, and Unavailable when real hosts have no image to start."""
    _flavors(plan)
    session = admin_session(plan)
    _images(plan, session)
    _network(session, plan.endpoint("network"))


def _flavors(plan: Plan) -> None:
    db = Database(plan.databases[GLOBAL])
    try:
        for flavor in FLAVORS:
            try:
                with db.begin() as tx:
                    flavors.insert_flavor(tx, flavor, SYSTEM_CLOCK.now())
            except (FlavorExists, FlavorIdExists):
                continue
    finally:
        db.dispose()


def admin_session(plan: Plan, seconds: float = 20.0) -> Any:
    """A session of the cloud's administrator. An answer may take so long."""
    known = credentials(plan, "admin")
    if "token" in known:
        auth: Any = token_endpoint.Token(plan.endpoint("compute"), known["token"])
    else:
        auth = v3.Password(**known)
    return keystoneauth1.session.Session(auth, timeout=seconds, verify=verified_by(plan.authorities))


def _images(plan: Plan, session: Any) -> None:
    endpoint = plan.endpoint("image")

    def image_service(method: str, path: str, **more: Any) -> Any:
        return ask(session, method, f"{endpoint}{path}", **more)

    upload_images(plan, image_service)


def _network(session: Any, endpoint: str) -> None:
    if ask(session, "GET", f"{endpoint}/v2.0/networks?name={NETWORK}")["networks"]:
        return
    network = ask(session, "POST", f"{endpoint}/v2.0/networks", json={"network": {"name": NETWORK, "shared": True}})
    subnet = {"name": f"{NETWORK}-subnet", "network_id": network["network"]["id"], "ip_version": 4, "cidr": CIDR}
    ask(session, "POST", f"{endpoint}/v2.0/subnets", json={"subnet": subnet})


def ask(session: Any, method: str, url: str, **more: Any) -> Any:
    """The JSON of the answer, None where it has no body. Raises PeerUnavailable for any other than a success."""
    answer = session.request(url, method, raise_exc=False, authenticated=True, **more)
    if answer.status_code >= 300:
        raise PeerUnavailable(service=url, reason=f"it answers {answer.status_code}: {answer.text[:200]}")
    return answer.json() if answer.content else None
