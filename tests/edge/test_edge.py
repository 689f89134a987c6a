"""What the edge promises about every request, whatever the resource."""

from __future__ import annotations

import json
import socket

import pytest

from api_cell.config import ApiSection, ApiSettings, Middleware
from tests.edge.client import Client
from tests.edge.conftest import Serve


def test_a_route_is_found_with_and_without_the_project(client: Client) -> None:
    plain = client.get("/things/7")
    scoped = client.get("/admin-project/things/7")

    assert plain.status == scoped.status == 200
    assert plain.json["links"] == [f"http://127.0.0.1:{client.port}/v2.1", f"http://127.0.0.1:{client.port}"]
    assert scoped.json["links"][0].endswith("/v2.1/admin-project")


def test_another_project_in_the_path_is_400(client: Client) -> None:
    assert client.get("/somebody-else/things/7").fault[0] == "badRequest"


@pytest.mark.parametrize(
    ("asked", "given"),
    [(None, "2.1"), ("2.53", "2.53"), ("latest", "2.96"), ("2.96", "2.96")],
)
def test_an_answer_names_its_version(client: Client, asked: str | None, given: str) -> None:
    reply = client.get("/things/7", version=asked)

    assert reply.status == 200
    assert reply.headers["OpenStack-API-Version"] == f"compute {given}"
    assert reply.headers["X-OpenStack-Nova-API-Version"] == given
    assert "OpenStack-API-Version" in reply.headers["Vary"]
    assert "X-OpenStack-Nova-API-Version" in reply.headers["Vary"]


def test_the_old_header_and_a_list_of_services_are_understood(client: Client) -> None:
    old = client.get("/things/7", headers={"X-OpenStack-Nova-API-Version": "2.26"})
    many = client.get("/things/7", headers={"OpenStack-API-Version": "identity 3.9, compute 2.38"})
    other = client.get("/things/7", headers={"OpenStack-API-Version": "identity 3.9"})

    assert [r.headers["X-OpenStack-Nova-API-Version"] for r in (old, many, other)] == ["2.26", "2.38", "2.1"]


@pytest.mark.parametrize("asked", ["2", "two", "2.01", "2.1.1", "", "-2.1", "2.x"])
def test_a_malformed_version_is_400(client: Client, asked: str) -> None:
    assert client.get("/things/7", version=asked).fault[0] == "badRequest"


@pytest.mark.parametrize("asked", ["2.97", "2.0", "1.1", "3.1", "2.99999"])
def test_a_version_out_of_range_is_406(client: Client, asked: str) -> None:
    reply = client.get("/things/7", version=asked)

    assert reply.status == 406
    assert reply.json["computeFault"]["code"] == 406
    assert "2.96" in reply.json["computeFault"]["message"]
    assert "OpenStack-API-Version" in reply.headers["Vary"]


def test_a_route_outside_its_versions_is_404(client: Client) -> None:
    assert client.get("/things/new", version="2.15").status == 202
    assert client.get("/things/new", version="2.21").fault[0] == "itemNotFound"


def test_an_unknown_path_is_404_and_a_known_one_tells_its_methods(client: Client) -> None:
    assert client.get("/nothing/at/all").fault[0] == "itemNotFound"
    wrong = client.delete("/things/7")
    assert wrong.fault[0] == "badMethod"
    assert wrong.headers["Allow"] == "GET"
    assert client.request("HEAD", "/things/7").status == 405


@pytest.mark.parametrize("path", ["/", "/v2.1", "/v2.1/"])
def test_probes_of_load_balancers_need_no_token(client: Client, path: str) -> None:
    head = client.request("HEAD", path, whole=True, token=None)
    assert (head.status, head.raw) == (200, b"")
    options = client.request("OPTIONS", path, whole=True, token=None)
    assert (options.status, options.headers["Allow"]) == (200, "GET, HEAD, OPTIONS")
    assert client.request("DELETE", path, whole=True, token=None).status == 405


@pytest.mark.parametrize("path", ["/things/", "/project/things/", "/things/new/", "/fail/"])
def test_after_a_trailing_slash_there_is_nothing(client: Client, path: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        assert client.request(method, path, {} if method == "POST" else None, version="2.10").fault[0] == "itemNotFound"


def test_every_answer_has_request_ids_and_the_callers_id_is_passed_on(client: Client) -> None:
    outer = "req-9a1f2c3d-0000-4000-8000-1234567890ab"
    known = client.get("/things/7", headers={"X-OpenStack-Request-ID": outer})
    forged = client.get("/things/7", headers={"X-OpenStack-Request-ID": "req-<script>"})
    missing = client.get("/nowhere", token=None)

    assert known.json["global"] == outer
    assert known.headers["X-OpenStack-Request-Id"] != outer
    assert forged.json["global"] == ""
    for reply in (known, forged, missing):
        assert reply.headers["X-OpenStack-Request-Id"] == reply.headers["X-Compute-Request-Id"]
        assert reply.headers["X-OpenStack-Request-Id"].startswith("req-")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "Malformed request body"),
        (b"\xff\xfe", "Malformed request body"),
        (b'{"thing": {"name": NaN}}', "Malformed request body"),
        (b'{"thing": {"name": "\\ud800"}}', "Malformed request body"),
        (b'{"thing": {"name": "a\\u0000"}}', "Malformed request body"),
        (b"[" * 100_000, "Malformed request body"),
        ({"thing": {"name": "a", "size": 2**63}}, "beyond 64 bits"),
        (b'{"thing": {"name": "a", "size": 1e999}}', "beyond 64 bits"),
        ({"thing": {"name": "a", "size": -(2**63)}}, "less than the minimum of 1"),
        (b"[]", "not of type"),
        (b"", "needs a body"),
        ({}, "'thing' is a required property"),
        ({"thing": {"name": "a", "more": 1}}, "'more' was unexpected"),
        ({"thing": {"name": ""}}, "attribute name"),
        ({"thing": {"name": " a"}}, "attribute name"),
        ({"thing": {"name": "123456789"}}, "is too long"),
        ({"thing": {"name": 5}}, "not of type 'string'"),
        ({"thing": {"name": "a", "size": 0}}, "less than the minimum of 1"),
        ({"thing": {"name": "a", "size": "11"}}, "out of bounds"),
        ({"thing": {"name": "a", "size": "1x"}}, "does not match"),
        ({"thing": {"name": "a", "size": True}}, "not of type"),
    ],
)
def test_a_bad_body_is_400_and_says_why(client: Client, body: object, said: str) -> None:
    reply = client.post("/things", body)

    assert reply.fault[0] == "badRequest"
    assert said in reply.fault[1]


def test_numbers_may_be_written_as_text(client: Client) -> None:
    assert client.post("/things", {"thing": {"name": "a", "size": "10"}}).status == 202


def test_the_old_endpoint_has_no_versions_and_drops_unknown_keys(client: Client) -> None:
    reply = client.post("/v2/things", {"thing": {"name": "a", "more": 1}, "x": 2}, version="2.96", whole=True)

    assert reply.status == 202
    assert reply.json == {"thing": {"name": "a"}}
    assert reply.headers["OpenStack-API-Version"] is None


@pytest.mark.parametrize("body", [{}, {"a": 1, "b": 2}, {"dance": None}, [], "start", {"lock": {}}])
def test_an_unknown_action_is_400(client: Client, body: object) -> None:
    status = 404 if body == {"lock": {}} else 400
    assert client.post("/things/7/action", body).status == status


def test_an_action_is_found_by_its_key(client: Client) -> None:
    assert client.post("/things/7/action", {"start": None}).json == {"start": None}


def test_a_query_is_checked_from_the_version_that_does_so(client: Client) -> None:
    assert client.get("/things/7?limit=x&y=1").status == 200
    assert client.get("/things/7?y=1", version="2.75").fault[0] == "badRequest"
    assert client.get("/things/7?limit=3", version="2.75").json["query"] == {"limit": ["3"]}
    assert client.get("/things/7?limit=3&limit=4", version="2.75").status == 400
    assert client.get("/things/%00").status == 404


def test_another_content_type_is_415(client: Client) -> None:
    reply = client.post("/things", b"name=a", headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert reply.fault[0] == "badMediaType"


def test_the_drivers_words_are_for_the_operator(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    reply = client.get("/unsynced")
    assert (reply.status, reply.headers["Retry-After"]) == (503, "1")
    sentence = "A part of the service does not answer at the moment. Please try again later."
    assert reply.fault == ("serviceUnavailable", sentence)
    (said,) = [record for record in caplog.records if "cell_mappings" in record.getMessage()]
    assert said.__dict__["request_id"] == reply.headers["X-OpenStack-Request-Id"]


def test_a_bug_is_hidden_and_named_by_its_request_id(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    reply = client.get("/fail")

    assert reply.fault[0] == "computeFault"
    assert "secret" not in reply.fault[1]
    assert reply.headers["X-OpenStack-Request-Id"] in reply.fault[1]
    assert sum("the secret of the bug" in str(record.exc_info) for record in caplog.records if record.exc_info) == 1


def test_an_error_becomes_the_status_of_its_family(client: Client) -> None:
    assert client.get("/missing").fault == ("itemNotFound", "Flavor f could not be found.")
    assert client.post("/missing", {}).fault == ("badRequest", "Flavor f could not be found.")
    silent = client.get("/silent")
    assert silent.fault[0] == "serviceUnavailable"
    assert int(silent.headers["Retry-After"]) >= 1


def test_policy_decides_by_role_and_project(client: Client) -> None:
    assert client.post("/things", {"thing": {"name": "a"}}, token="ann:p").fault[0] == "forbidden"
    assert client.get("/things/7", token="ann:p").status == 200


def test_without_a_token_401_says_where_to_get_one(client: Client) -> None:
    reply = client.get("/things/7", token=None)

    assert reply.fault[0] == "unauthorized"
    assert reply.headers["WWW-Authenticate"].startswith("Keystone uri=")


def test_a_large_body_is_413_and_the_connection_goes_on(serve: Serve) -> None:
    settings = ApiSettings(api=ApiSection(auth_strategy="noauth2"), middleware=Middleware(max_request_body_size=1000))
    _, client = serve(settings)

    assert client.post("/things", b'"' + b"a" * 5000 + b'"').fault[0] == "overLimit"
    assert client.get("/things/7").status == 200


def test_a_body_without_end_is_cut_off(serve: Serve) -> None:
    server, _ = serve()
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as raw:
        raw.sendall(b"POST /v2.1/things HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
        assert raw.recv(65536).startswith(b"HTTP/1.1 413")
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as raw:
        raw.sendall(b"POST /v2.1/things HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        with pytest.raises(OSError):  # noqa: PT012  the server hangs up in the middle
            for _ in range(2000):
                raw.sendall(b"10000\r\n" + b"a" * 65536 + b"\r\n")


def test_proxies_are_believed_only_where_configured(serve: Serve) -> None:
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "cloud.example", "X-Forwarded-Prefix": "/compute"}
    noauth = ApiSection(auth_strategy="noauth2")
    _, plain = serve()
    _, trusting = serve(ApiSettings(api=noauth, middleware=Middleware(enable_proxy_headers_parsing=True)))
    _, fixed = serve(ApiSettings(api=ApiSection(auth_strategy="noauth2", compute_link_prefix="https://nova.example/c")))

    assert plain.get("/things/7", headers=headers).json["links"][0] == f"http://127.0.0.1:{plain.port}/v2.1"
    assert trusting.get("/things/7", headers=headers).json["links"][0] == "https://cloud.example/compute/v2.1"
    forwarded = {"Forwarded": 'for=1.2.3.4;proto=https;host="f.example", for=5.6.7.8'}
    assert trusting.get("/things/7", headers=forwarded).json["links"][0] == "https://f.example/v2.1"
    assert fixed.get("/things/7", headers=headers).json["links"][0] == "https://nova.example/c/v2.1"


def test_health_needs_no_token(client: Client) -> None:
    assert client.get("/healthz", whole=True, token=None).json["status"] == "ok"
    ready = client.get("/readyz", whole=True, token=None)
    assert (ready.status, ready.json["database"]) == (200, "ok")


def test_the_version_documents_need_no_token(client: Client) -> None:
    root = client.get("/", whole=True, token=None)
    assert [(v["id"], v["status"], v["version"]) for v in root.json["versions"]] == [
        ("v2.0", "DEPRECATED", ""),
        ("v2.1", "CURRENT", "2.104"),
    ]
    for path in ("/v2.1", "/v2.1/", "/v2", "/v2/"):
        detail = client.get(path, whole=True, token=None)
        assert detail.status == 200
        assert detail.json["version"]["links"][0]["href"].endswith(path.rstrip("/") + "/")
    elsewhere = client.get("/v3/servers", whole=True, token=None)
    assert elsewhere.status == 300
    assert elsewhere.json["choices"][1]["links"][0]["href"].endswith("/v2.1/v3/servers")


def test_too_many_requests_at_once_are_503(serve: Serve, gates: object) -> None:
    settings = ApiSettings(api=ApiSection(auth_strategy="noauth2", max_in_flight=2, worker_threads=2))
    server, client = serve(settings)
    others = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(2)]
    for other in others:
        other.sendall(b"GET /v2.1/wait HTTP/1.1\r\nHost: x\r\nX-Auth-Token: a:b\r\n\r\n")
        assert gates.entered.acquire(timeout=10)  # type: ignore[attr-defined]

    refused = client.get("/things/7")

    assert refused.fault[0] == "serviceUnavailable"
    assert refused.headers["Retry-After"]
    gates.open.set()  # type: ignore[attr-defined]
    for other in others:
        assert json.loads(other.recv(65536).partition(b"\r\n\r\n")[2]) == {"waited": True}
        other.close()
