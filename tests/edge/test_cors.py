"""What pages of other origins get, as oslo.middleware answers them."""

from __future__ import annotations

from typing import Any

import pytest

from api_cell.config import ApiSection, ApiSettings, CorsSection, read_settings
from cell_service.config import load
from tests.edge.client import Client, Reply
from tests.edge.conftest import Serve

PAGE, OTHER = "http://valid.example.com", "http://other.example.com"
_PREFIX = "Access-Control-"


def opened(serve: Serve, *origins: str, **options: Any) -> Client:
    cors = CorsSection(allowed_origin=origins or (PAGE,), **options)
    return serve(ApiSettings(api=ApiSection(auth_strategy="noauth2"), cors=cors))[1]


def ask(client: Client, method: str, path: str = "/things/7", origin: str | None = PAGE, **headers: str) -> Reply:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if origin is not None:
        sent["Origin"] = origin
    return client.request(method, path, headers=sent, token=None if method == "OPTIONS" else "")


def preflight(
    client: Client, method: str = "GET", origin: str | None = PAGE, headers: str = "", path: str = "/things/7"
) -> Reply:
    wanted = {"Access_Control_Request_Headers": headers} if headers else {}
    return ask(client, "OPTIONS", path, origin, Access_Control_Request_Method=method, **wanted)


def granted(reply: Reply) -> dict[str, str]:
    return {name.removeprefix(_PREFIX): value for name, value in reply.headers.items() if name.startswith(_PREFIX)}


@pytest.mark.parametrize("path", ["/things/7", "/things", "/nowhere", "/"])
def test_a_preflight_is_granted_without_a_token(serve: Serve, path: str) -> None:
    reply = preflight(opened(serve), "PUT", headers="X-Auth-Token, content-type,openstack-api-version", path=path)
    assert (reply.status, reply.raw) == (200, b"")
    assert granted(reply) == {
        "Allow-Origin": PAGE, "Allow-Credentials": "true", "Max-Age": "3600", "Allow-Methods": "PUT",
        "Allow-Headers": "X-Auth-Token,content-type,openstack-api-version",
    }  # fmt: skip
    assert "Origin" in reply.headers["Vary"]
    assert reply.headers["X-OpenStack-Request-Id"].startswith("req-")


@pytest.mark.parametrize(
    "asked",
    [
        {"origin": OTHER}, {"origin": None}, {"method": "TRACE"}, {"method": "get"},
        {"headers": "X-Auth-Token, X-Strange"},
    ],
)  # fmt: skip
def test_a_preflight_that_is_not_allowed_gets_no_headers(serve: Serve, asked: dict[str, Any]) -> None:
    reply = preflight(opened(serve), **asked)
    assert (reply.status, granted(reply)) == (200, {})


def test_an_options_without_a_method_is_no_preflight(serve: Serve) -> None:
    assert granted(ask(opened(serve), "OPTIONS")) == {}


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/things/7", 200), ("GET", "/nowhere", 404)])
def test_answers_and_refusals_may_be_read_by_allowed_pages(serve: Serve, method: str, path: str, status: int) -> None:
    client = opened(serve, PAGE, expose_headers=("X-Auth-Token", "OpenStack-API-Version"))
    reply = ask(client, method, path)
    assert reply.status == status
    assert granted(reply) == {
        "Allow-Origin": PAGE, "Allow-Credentials": "true", "Expose-Headers": "X-Auth-Token,OpenStack-API-Version",
    }  # fmt: skip
    assert reply.headers["Vary"].endswith(", Origin")
    for origin in (OTHER, None):
        reply = ask(client, method, path, origin)
        assert (reply.status, granted(reply)) == (status, {})


def test_a_refused_token_may_be_read_too(serve: Serve) -> None:
    reply = opened(serve).request("GET", "/things/7", token=None, headers={"Origin": PAGE})
    assert (reply.status, granted(reply)["Allow-Origin"]) == (401, PAGE)


def test_any_origin_may_be_allowed(serve: Serve) -> None:
    client = opened(serve, PAGE, "*", allow_credentials=False, max_age=0, expose_headers=())
    assert granted(ask(client, "GET", origin=OTHER)) == {"Allow-Origin": "*"}
    assert granted(ask(client, "GET")) == {"Allow-Origin": PAGE}
    assert granted(preflight(client, origin=OTHER)) == {"Allow-Origin": "*", "Allow-Methods": "GET"}


def test_without_origins_nothing_is_different(client: Client) -> None:
    assert granted(ask(client, "GET")) == {}
    assert preflight(client).status == 405
    assert "Origin" not in ask(client, "GET").headers["Vary"]


def test_the_options_are_those_of_oslo_middleware(tmp_path: Any) -> None:
    file = tmp_path / "nova.conf"
    file.write_text(
        f"[cors]\nallowed_origin = {PAGE},{OTHER}\nallow_credentials = false\nmax_age = 5\n"
        "allow_methods = GET\nallow_headers = X-One,X-Two\nexpose_headers = X-Three\n"
    )
    assert read_settings(load([str(file)])).cors == CorsSection(
        (PAGE, OTHER), False, ("X-Three",), 5, ("GET",), ("X-One", "X-Two")
    )
