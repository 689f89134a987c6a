"""Tokens of the identity service: valid, expired, revoked, vouched for, and the service being away."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from api_cell.config import ApiSettings
from api_cell.edge.auth import Identity as Bearer
from api_cell.edge.auth import NoAuth, TokenCache
from api_cell.edge.keystone import Keystone
from cell_service.context import ManualClock
from cell_service.errors import Unauthenticated
from cell_service.peers.settings import KeystoneAuthtoken
from tests.edge.client import Client
from tests.edge.conftest import Serve
from tests.edge.identity import Identity, token


@pytest.fixture
def identity() -> Iterator[Identity]:
    made = Identity()
    yield made
    made.close()


@pytest.fixture
def settings(identity: Identity) -> ApiSettings:
    account = KeystoneAuthtoken(
        account={"auth_url": f"{identity.url}/v3", "username": "nova", "password": "secret"},
        www_authenticate_uri="http://identity.example",
    )
    return ApiSettings(identity=account)


@pytest.fixture
def client(serve: Serve, settings: ApiSettings) -> Client:
    return serve(settings, Keystone(settings.identity))[1]


def status(client: Client, name: str | None, **headers: str) -> int:
    return client.get("/things/7", token=name, headers=headers).status


def test_a_valid_token_is_asked_about_once(identity: Identity, client: Client) -> None:
    identity.tokens["good"] = token("p1", "reader")

    assert [status(client, "good") for _ in range(3)] == [200, 200, 200]
    assert identity.asked["good"] == 1
    assert client.get("/things/7", token="good").json["links"]


def test_roles_decide(identity: Identity, client: Client) -> None:
    identity.tokens["none"] = token("p1")
    identity.tokens["admin"] = token("p1", "admin")

    assert status(client, "none") == 403
    assert client.post("/things", {"thing": {"name": "a"}}, token="admin").status == 202


@pytest.mark.parametrize("name", ["unknown", "late", "bad\tname", "ä"])
def test_a_token_that_is_not_valid_is_401(identity: Identity, client: Client, name: str) -> None:
    identity.tokens["late"] = token("p1", "reader", minutes=-1)

    reply = client.get("/things/7", token=name.encode().decode("latin-1"))
    assert reply.fault[0] == "unauthorized"
    assert reply.headers["WWW-Authenticate"] == 'Keystone uri="http://identity.example"'


def test_a_service_may_use_the_late_token_of_a_user(identity: Identity, client: Client) -> None:
    identity.tokens |= {
        "late": token("p1", "reader", minutes=-5),
        "service": token("service", "service"),
        "other": token("p2", "member"),
    }

    assert status(client, "late", **{"X-Service-Token": "service"}) == 200
    assert status(client, "late", **{"X-Service-Token": "service"}) == 200
    assert status(client, "late", **{"X-Service-Token": "other"}) == 401
    assert status(client, "late", **{"X-Service-Token": "forged"}) == 401


def test_a_system_token_is_outside_the_scope_of_projects(
    identity: Identity, serve: Serve, settings: ApiSettings
) -> None:
    identity.tokens["system"] = token(None, "admin", "reader", system={"all": True})
    strict = serve(settings, Keystone(settings.identity))[1]
    loose_settings = replace(settings, policy=replace(settings.policy, enforce_scope=False))
    loose = serve(loose_settings, Keystone(settings.identity))[1]

    body = {"thing": {"name": "a"}}
    assert strict.post("/things", body, token="system").status == 403
    assert loose.post("/things", body, token="system").status == 202


def test_without_the_identity_service_503_but_known_tokens_go_on(identity: Identity, client: Client) -> None:
    identity.tokens["good"] = token("p1", "reader")
    assert status(client, "good") == 200
    identity.broken = True

    reply = client.get("/things/7", token="other")
    assert reply.fault[0] == "serviceUnavailable"
    assert reply.headers["Retry-After"]
    assert status(client, "good") == 200


def test_many_who_wait_for_one_token_ask_once(identity: Identity, client: Client, serve: Serve) -> None:
    identity.tokens["good"] = token("p1", "reader")
    identity.gate.clear()
    answers: list[int] = []
    clients = [Client(client.port) for _ in range(6)]
    threads = [threading.Thread(target=lambda c=one: answers.append(status(c, "good"))) for one in clients]
    for thread in threads:
        thread.start()
    assert client.get("/healthz", whole=True).status == 200
    identity.gate.set()
    for thread in threads:
        thread.join()

    assert answers == [200] * 6
    assert identity.asked["good"] == 1


def test_a_slow_identity_service_costs_known_tokens_nothing(identity: Identity, client: Client) -> None:
    identity.tokens["good"] = token("p1", "reader")
    assert status(client, "good") == 200
    identity.gate.clear()
    waiting = [Client(client.port) for _ in range(8)]
    threads = [
        threading.Thread(target=lambda c=one, n=number: status(c, f"new{n}")) for number, one in enumerate(waiting)
    ]
    for thread in threads:
        thread.start()

    assert [status(client, "good") for _ in range(5)] == [200] * 5
    identity.gate.set()
    for thread in threads:
        thread.join()


def test_a_revoked_token_is_refused_when_its_cached_answer_has_run_out() -> None:
    clock = ManualClock()
    tokens = TokenCache(10, clock)
    key = tokens.key("good", None)
    tokens.put(key, Bearer("ann"))

    assert tokens.find(key) == Bearer("ann")
    clock.advance(10)
    assert tokens.find(key) is None
    tokens.put(key, None)
    with pytest.raises(Unauthenticated):
        tokens.find(key)


def test_a_cached_token_ends_when_it_expires() -> None:
    clock = ManualClock()
    tokens = TokenCache(1000, clock)
    key = tokens.key("good", None)
    tokens.put(key, replace(Bearer("ann"), expires_at=clock.now()))
    with pytest.raises(Unauthenticated):
        tokens.find(key)


def test_noauth_takes_the_token_at_its_word() -> None:
    ann, admin = NoAuth().authenticate("ann:p1", None), NoAuth().authenticate("admin:p2", None)

    assert (ann.user_id, ann.project_id, "admin" in ann.roles) == ("ann", "p1", False)
    assert "admin" in admin.roles
