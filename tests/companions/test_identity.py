"""The identity companion over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import requests

from cell_service.context import SYSTEM_CLOCK, ManualClock
from tests.suites.companions import PASSWORDS, QUICK, REGION, Companions, log_in, start_companions
from tools.companions.identity.service import IdentitySettings, Seed, make_identity, seed

_numbers = count(1)


def call(cloud: Companions, method: str, path: str, token: str | None = None, **more: Any) -> requests.Response:
    headers = {"X-Auth-Token": token or cloud.token(), **more.pop("headers", {})}
    return requests.request(method, f"{cloud.identity.url}{path}", headers=headers, timeout=10, **more)


def validate(cloud: Companions, subject: str, query: str = "", token: str | None = None) -> requests.Response:
    return call(cloud, "GET", f"/v3/auth/tokens{query}", token, headers={"X-Subject-Token": subject})


def new_user(cloud: Companions, **fields: Any) -> dict[str, Any]:
    body = {"user": {"name": f"user-{next(_numbers)}", "password": "first", **fields}}
    made = call(cloud, "POST", "/v3/users", json=body)
    assert made.status_code == 201, made.text
    return dict(made.json()["user"])


def auth(cloud: Companions, body: Any) -> requests.Response:
    return requests.post(f"{cloud.identity.url}/v3/auth/tokens", json=body, timeout=10)


def test_versions_need_no_token(cloud: Companions) -> None:
    choices = requests.get(cloud.identity.url, timeout=10)
    assert choices.status_code == 300
    assert choices.json()["versions"]["values"][0]["links"][0]["href"] == f"{cloud.identity.url}/v3/"
    assert requests.get(f"{cloud.identity.url}/v3", timeout=10).json()["version"]["status"] == "stable"


def test_a_token_says_who_and_where(cloud: Companions) -> None:
    reply = log_in(cloud.identity.url, "admin", PASSWORDS["admin"], "admin")
    assert reply.status_code == 201
    token = reply.json()["token"]
    assert (token["user"]["name"], token["project"]["name"]) == ("admin", "admin")
    assert {role["name"] for role in token["roles"]} == {"admin", "manager", "member", "reader"}
    assert {entry["type"] for entry in token["catalog"]} == {"identity", "image", "network"}
    shown = validate(cloud, reply.headers["X-Subject-Token"], "?nocatalog")
    assert shown.status_code == 200
    assert shown.json()["token"] == {name: value for name, value in token.items() if name != "catalog"}
    head = call(cloud, "HEAD", "/v3/auth/tokens", headers={"X-Subject-Token": reply.headers["X-Subject-Token"]})
    assert (head.status_code, head.content) == (200, b"")


def test_scopes(cloud: Companions) -> None:
    identity = {
        "methods": ["password"],
        "password": {"user": {"name": "admin", "domain": {"name": "Default"}, "password": PASSWORDS["admin"]}},
    }
    for scope, key in (
        ({"project": {"name": "demo", "domain": {"name": "Default"}}}, "project"),
        ({"domain": {"id": "default"}}, "domain"),
        ({"system": {"all": True}}, "system"),
        ("unscoped", None),
        (None, None),
    ):
        reply = auth(cloud, {"auth": {"identity": identity, **({"scope": scope} if scope else {})}})
        assert reply.status_code == 201, reply.text
        assert set(reply.json()["token"]) & {"project", "domain", "system"} == ({key} if key else set())
    unscoped = reply.headers["X-Subject-Token"]
    by_token = {"auth": {"identity": {"methods": ["token"], "token": {"id": unscoped}},
                         "scope": {"project": {"name": "demo", "domain": {"id": "default"}}}}}  # fmt: skip
    assert auth(cloud, by_token).json()["token"]["project"]["name"] == "demo"


@pytest.mark.parametrize(
    ("user", "password", "project"),
    [("admin", "wrong", "admin"), ("nobody", "x", "admin"), ("demo", PASSWORDS["demo"], "admin"), ("demo", "", "demo"),
     ("admin", PASSWORDS["admin"], "nowhere")],
)  # fmt: skip
def test_who_is_not_known_or_has_no_role_there_gets_no_token(
    cloud: Companions, user: str, password: str, project: str
) -> None:
    reply = log_in(cloud.identity.url, user, password, project)
    assert reply.status_code == 401
    assert reply.json()["error"]["code"] == 401
    assert "WWW-Authenticate" in reply.headers


@pytest.mark.parametrize(
    "body",
    [{}, [], None, {"auth": 1}, {"auth": {"identity": {"methods": ["password"]}}}, {"auth": {"identity": []}},
     {"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": "a"}}}}},
     {"auth": {"identity": {"methods": ["password"], "password": {"user": {"id": 7, "password": "x"}}}}}],
)  # fmt: skip
def test_nonsense_is_refused(cloud: Companions, body: Any) -> None:
    assert auth(cloud, body).status_code == 400


def test_bodies_that_are_no_json_are_refused(cloud: Companions) -> None:
    url = f"{cloud.identity.url}/v3/auth/tokens"
    assert requests.post(url, data=b"{", headers={"Content-Type": "application/json"}, timeout=10).status_code == 400
    assert requests.post(url, data=b"a", headers={"Content-Type": "text/plain"}, timeout=10).status_code == 415
    assert requests.put(url, timeout=10).status_code == 405
    assert requests.get(f"{cloud.identity.url}/v9", timeout=10).status_code == 404


def test_a_revoked_token_holds_no_more(cloud: Companions) -> None:
    subject = cloud.token("demo", "demo")
    assert validate(cloud, subject).status_code == 200
    revoked = call(cloud, "DELETE", "/v3/auth/tokens", subject, headers={"X-Subject-Token": subject})
    assert revoked.status_code == 204
    assert validate(cloud, subject).status_code == 404
    assert call(cloud, "GET", "/v3/auth/projects", subject).status_code == 401


def test_forged_and_unknown_tokens_are_refused(cloud: Companions) -> None:
    token = cloud.token("demo", "demo")
    body, _, signature = token.partition(".")
    for forged in ("x", "x.y", f"{body}.", f"{body}.{signature[:-4]}AAAA", f"{body[:-4]}AAAA.{signature}", "a.b.c"):
        assert validate(cloud, forged).status_code == 404
        assert call(cloud, "GET", "/v3/auth/projects", forged).status_code == 401


def test_users_see_only_their_own_tokens(cloud: Companions) -> None:
    mine, admins = cloud.token("demo", "demo"), cloud.token()
    assert validate(cloud, mine, token=mine).status_code == 200
    assert validate(cloud, admins, token=mine).status_code == 403
    assert validate(cloud, mine, token=cloud.token("nova", "service")).status_code == 200


def test_a_changed_password_ends_older_tokens(cloud: Companions) -> None:
    user = new_user(cloud, default_project_id=None)
    token = log_in(cloud.identity.url, user["name"], "first", None).headers["X-Subject-Token"]
    path = f"/v3/users/{user['id']}/password"
    wrong = {"user": {"original_password": "no", "password": "second"}}
    assert call(cloud, "POST", path, token, json=wrong).status_code == 401
    right = {"user": {"original_password": "first", "password": "second"}}
    assert call(cloud, "POST", path, token, json=right).status_code == 204
    assert validate(cloud, token).status_code == 404
    assert log_in(cloud.identity.url, user["name"], "first", None).status_code == 401
    assert log_in(cloud.identity.url, user["name"], "second", None).status_code == 201


def test_a_disabled_user_is_out(cloud: Companions) -> None:
    user = new_user(cloud)
    token = log_in(cloud.identity.url, user["name"], "first", None).headers["X-Subject-Token"]
    changed = call(cloud, "PATCH", f"/v3/users/{user['id']}", json={"user": {"enabled": False}})
    assert changed.json()["user"]["enabled"] is False
    assert validate(cloud, token).status_code == 404
    assert log_in(cloud.identity.url, user["name"], "first", None).status_code == 401


def test_only_administrators_write(cloud: Companions) -> None:
    demo = cloud.token("demo", "demo")
    for method, path, body in (
        ("POST", "/v3/users", {"user": {"name": "x"}}),
        ("POST", "/v3/projects", {"project": {"name": "x"}}),
        ("GET", "/v3/users", None),
        ("GET", "/v3/role_assignments", None),
        ("POST", "/v3/endpoints", {"endpoint": {}}),
    ):
        assert call(cloud, method, path, demo, json=body).status_code == 403


def test_names_are_taken_once(cloud: Companions) -> None:
    user = new_user(cloud)
    again = call(cloud, "POST", "/v3/users", json={"user": {"name": user["name"]}})
    assert again.status_code == 409
    assert call(cloud, "GET", "/v3/users/unknown").status_code == 404
    assert call(cloud, "POST", "/v3/users", json={"user": {"name": "y", "domain_id": "nowhere"}}).status_code == 400
    assert "password" not in user


def test_roles_are_granted_and_taken_away(cloud: Companions) -> None:
    user = new_user(cloud)
    project = call(cloud, "POST", "/v3/projects", json={"project": {"name": user["name"]}}).json()["project"]
    role = call(cloud, "GET", "/v3/roles?name=member").json()["roles"][0]
    path = f"/v3/projects/{project['id']}/users/{user['id']}/roles/{role['id']}"
    assert log_in(cloud.identity.url, user["name"], "first", project["name"]).status_code == 401
    assert [call(cloud, "PUT", path).status_code for _ in range(2)] == [204, 204]
    token = log_in(cloud.identity.url, user["name"], "first", project["name"])
    assert {role["name"] for role in token.json()["token"]["roles"]} == {"member", "reader"}

    query = f"?user.id={user['id']}&include_names&effective"
    found = call(cloud, "GET", f"/v3/role_assignments{query}").json()["role_assignments"]
    assert sorted(one["role"]["name"] for one in found) == ["member", "reader"]
    assert found[0]["scope"]["project"]["domain"]["name"] == "Default"

    assert call(cloud, "DELETE", path).status_code == 204
    assert call(cloud, "DELETE", path).status_code == 404
    assert validate(cloud, token.headers["X-Subject-Token"]).status_code == 404


def test_application_credentials_log_in(cloud: Companions) -> None:
    demo = cloud.token("demo", "demo")
    user_id = validate(cloud, demo).json()["token"]["user"]["id"]
    path = f"/v3/users/{user_id}/application_credentials"
    body = {"application_credential": {"name": f"app-{next(_numbers)}", "roles": [{"name": "reader"}]}}
    made = call(cloud, "POST", path, demo, json=body).json()["application_credential"]
    given = {"id": made["id"], "secret": made["secret"]}
    identity = {"methods": ["application_credential"], "application_credential": given}
    reply = auth(cloud, {"auth": {"identity": identity}})
    assert [role["name"] for role in reply.json()["token"]["roles"]] == ["reader"]
    assert reply.json()["token"]["project"]["name"] == "demo"
    too_much = {"application_credential": {"name": "more", "roles": [{"name": "admin"}]}}
    assert call(cloud, "POST", path, demo, json=too_much).status_code == 400
    assert "secret" not in call(cloud, "GET", f"{path}/{made['id']}", demo).json()["application_credential"]
    assert call(cloud, "DELETE", f"{path}/{made['id']}", demo).status_code == 204
    assert validate(cloud, reply.headers["X-Subject-Token"]).status_code == 404


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(SYSTEM_CLOCK.now())


@pytest.fixture
def brief(tmp_path: Path, clock: ManualClock) -> Iterator[Companions]:
    made = start_companions(tmp_path, IdentitySettings(token_seconds=600, password_rounds=4), clock)
    yield made
    made.close()


def test_tokens_end(brief: Companions, clock: ManualClock) -> None:
    token = log_in(brief.identity.url, "demo", PASSWORDS["demo"], "demo").headers["X-Subject-Token"]
    clock.advance(599)
    later = log_in(brief.identity.url, "admin", PASSWORDS["admin"], "admin").headers["X-Subject-Token"]
    assert validate(brief, token, token=later).status_code == 200
    clock.advance(1)
    assert validate(brief, token, token=later).status_code == 404
    assert validate(brief, token, "?allow_expired=1", token=later).status_code == 200
    assert (
        requests.get(f"{brief.network.url}/v2.0/ports", headers={"X-Auth-Token": token}, timeout=5).status_code == 401
    )


def test_seeding_again_keeps_what_is_there(tmp_path: Path) -> None:
    seed(tmp_path, Seed(PASSWORDS, {"compute": "http://old/v2.1"}), QUICK)
    identity = make_identity(tmp_path, QUICK)
    identity.start()
    try:
        before = log_in(identity.url, "admin", PASSWORDS["admin"], "admin").json()["token"]
        seed(tmp_path, Seed({**PASSWORDS, "demo": "new"}, {"compute": "http://new/v2.1/$(project_id)s"}, REGION), QUICK)
        after = log_in(identity.url, "admin", PASSWORDS["admin"], "admin").json()["token"]
        assert after["user"] == before["user"]
        urls = {endpoint["url"] for entry in after["catalog"] for endpoint in entry["endpoints"]}
        assert urls == {f"http://new/v2.1/{after['project']['id']}"}
        assert log_in(identity.url, "demo", "new", "demo").status_code == 201
    finally:
        identity.drain(2)
