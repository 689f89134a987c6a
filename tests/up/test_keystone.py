"""A cloud with `--auth URL` is in the catalogue of that Keystone, and its account may do what services demand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.real.databases import free_ports
from tools.companions.identity.service import IdentitySettings, Seed, make_identity, seed
from tools.up import keystone
from tools.up.plan import RESERVED_PORTS, Options, Plan, plan_of
from tools.up.seeding import admin_session, ask

QUICK = IdentitySettings(password_rounds=4)
URLS = {"compute": "http://127.0.0.1:1/v2.1", "image": "http://127.0.0.1:2"}


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plan]:
    """That of a cloud whose Keystone has an image service elsewhere, and whose administrator has sourced an openrc."""
    elsewhere = {"identity": "http://keystone/v3", "image": "http://glance.example:9292"}
    seed(tmp_path, Seed({"admin": "pw"}, elsewhere), QUICK)
    made = make_identity(tmp_path, QUICK)
    made.start(0)
    for name, value in {"USERNAME": "admin", "PASSWORD": "pw", "PROJECT_NAME": "admin"}.items():
        monkeypatch.setenv(f"OS_{name}", value)
    monkeypatch.delenv("OS_REGION_NAME", raising=False)
    yield plan_of(Options(tmp_path, auth=f"{made.url}/v3", port_base=free_ports(RESERVED_PORTS)))
    made.drain()


def listed(plan: Plan, plural: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask(admin_session(plan), "GET", f"{plan.options.auth}/{plural}")[plural]
    return found


def urls_of(plan: Plan, kind: str) -> dict[str, str]:
    ids = [each["id"] for each in listed(plan, "services") if each["type"] == kind]
    return {each["interface"]: each["url"] for each in listed(plan, "endpoints") if each["service_id"] in ids}


def test_its_services_are_in_the_catalogue_and_others_stay(plan: Plan) -> None:
    said = keystone.register(plan, URLS)
    assert urls_of(plan, "compute") == {"public": URLS["compute"], "internal": URLS["compute"]}
    assert set(urls_of(plan, "image").values()) == {"http://glance.example:9292"}
    assert said == [f"the catalogue's {interface} endpoint of image stays http://glance.example:9292"
                    for interface in ("public", "internal")]  # fmt: skip
    assert admin_session(plan).get_endpoint(service_type="compute", interface="public") == URLS["compute"]


def test_done_again_it_adds_nothing_and_follows_to_other_ports(plan: Plan) -> None:
    keystone.register(plan, URLS)
    before = listed(plan, "endpoints"), listed(plan, "services")
    keystone.register(plan, URLS)
    assert (listed(plan, "endpoints"), listed(plan, "services")) == before
    keystone.register(plan, {"compute": "http://127.0.0.1:3/v2.1"})
    assert set(urls_of(plan, "compute").values()) == {"http://127.0.0.1:3/v2.1"}


def test_its_account_has_the_role_that_services_demand(plan: Plan) -> None:
    before = _roles(plan)
    assert "service" not in before
    keystone.register(plan, URLS)
    assert _roles(plan) == before | {"service"}


def test_a_region_of_ones_own_is_taken(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OS_REGION_NAME", "west")
    keystone.register(plan, URLS)
    assert {each["region_id"] for each in listed(plan, "endpoints") if each["url"] in URLS.values()} == {"west"}


def _roles(plan: Plan) -> set[str]:
    session = admin_session(plan)
    headers = {"X-Auth-Token": session.get_token(), "X-Subject-Token": session.get_token()}
    token = requests.get(f"{plan.options.auth}/auth/tokens", headers=headers, timeout=10).json()["token"]
    return {role["name"] for role in token["roles"]}
