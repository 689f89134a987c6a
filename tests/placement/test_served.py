"""The Placement API behind the real edge: what clients see, and the stock client at work."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api_cell.config import ApiSection, ApiSettings, CorsSection, PolicySection
from api_cell.edge.auth import Identity, NoAuth
from api_cell.edge.server import ApiServer
from api_cell.placement.app import make_placement_app
from cell_service.db.sql.engine import Database
from tests.edge.client import Client
from tests.placement.stock import new_uuid, provider
from tests.suites.clouds import cloud_in_memory

ABSENT = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def server(db: Database, tmp_path: Path) -> Iterator[ApiServer]:
    cloud = cloud_in_memory(db)
    settings = ApiSettings(api=ApiSection(auth_strategy="noauth2"), policy=PolicySection())
    made = ApiServer(make_placement_app(cloud, settings, NoAuth()))
    made.start()
    yield made
    made.drain(2)


@pytest.fixture
def client(server: ApiServer) -> Iterator[Client]:
    made = Client(server.port, prefix="", service="placement")
    yield made
    made.close()


def test_the_version_document_needs_no_token(client: Client) -> None:
    reply = client.request("GET", "/", token=None)
    assert reply.status == 200
    assert reply.json["versions"][0]["max_version"] == "1.39"


def test_probes_of_load_balancers_need_no_token(client: Client) -> None:
    assert client.request("HEAD", "/", token=None).status == 200
    assert client.request("OPTIONS", "/", token=None).headers["Allow"] == "GET, HEAD, OPTIONS"


def test_pages_of_allowed_origins_may_use_it(db: Database) -> None:
    page = {"Origin": "http://valid.example.com", "Access-Control-Request-Method": "GET"}
    settings = ApiSettings(api=ApiSection(auth_strategy="noauth2"), cors=CorsSection((page["Origin"],)))
    server = ApiServer(make_placement_app(cloud_in_memory(db), settings, NoAuth()))
    server.start()
    client = Client(server.port, prefix="", service="placement")
    try:
        for method, path, token in (("OPTIONS", "/", None), ("OPTIONS", "/traits", None), ("GET", "/traits", "")):
            reply = client.request(method, path, token=token, headers=page, version="1.39")
            assert (reply.status, reply.headers["Access-Control-Allow-Origin"]) == (200, page["Origin"])
    finally:
        client.close()
        server.drain(0)


def test_only_administrators_and_services_may(client: Client) -> None:
    assert client.request("GET", "/resource_providers", token=None).status == 401
    refused = client.request("GET", "/resource_providers", token="u1:p1")
    assert refused.status == 403
    assert refused.json["errors"][0]["title"] == "Forbidden"


class Known:
    """Callers with roles of their own: the token is their user, project, roles and system scope."""

    challenge = ""

    def authenticate(self, token: str, service_token: str | None) -> Identity:
        user_id, project_id, roles, system = token.split(":")
        return Identity(user_id, project_id, tuple(roles.split("+")), system_scope=system)


@pytest.mark.parametrize("new_defaults", [True, False])
def test_who_may_what_by_default(db: Database, new_defaults: bool) -> None:
    policy = PolicySection(enforce_new_defaults=new_defaults)
    settings = ApiSettings(api=ApiSection(auth_strategy="noauth2"), policy=policy)
    server = ApiServer(make_placement_app(cloud_in_memory(db), settings, Known()))
    server.start()
    caller = Client(server.port, prefix="", service="placement")
    shape = {"inventories": {new_uuid(): {"resource_provider_generation": 0, "inventories": {}}}, "allocations": {}}
    try:
        for token, usages, providers, reshape in (
            ("u:p:admin+reader:", 200, 200, 403 if new_defaults else 400),
            ("u:other:admin+reader:", 200, 200, 403 if new_defaults else 400),
            ("u:s:service:", 200, 200, 400),
            ("u::admin+member+reader:all", 403, 403, 403),
            ("u:p:reader:", 200, 403, 403),
            ("u:other:member+reader:", 403, 403, 403),
        ):
            found = [
                caller.request("GET", "/usages?project_id=p", token=token, version="1.39").status,
                caller.request("GET", "/resource_providers", token=token, version="1.39").status,
                caller.request("POST", "/reshaper", shape, token=token, version="1.39").status,
            ]
            assert found == [usages, providers, reshape], token
    finally:
        caller.close()
        server.drain(0)


def test_media_types_are_read(client: Client) -> None:
    def ask(method: str, path: str, **headers: str) -> tuple[int, str]:
        reply = client.request(method, path, headers={name.replace("_", "-"): text for name, text in headers.items()})
        return reply.status, reply.headers["Content-Type"]

    assert ask("GET", "/resource_providers", Accept="text/plain")[0] == 406
    assert ask("GET", "/resource_providers", Accept="text/plain, */*;q=0.1") == (200, "application/json")
    assert ask("GET", "/nothing", Accept="text/html")[1].startswith("text/html")
    assert ask("GET", "/nothing", Accept="application/json") == (404, "application/json")
    assert ask("PUT", f"/resource_providers/{new_uuid()}")[0] == 415


@pytest.mark.parametrize(
    ("method", "path", "version", "status"),
    [
        ("GET", "/", "0.5", 406),
        ("GET", "/", "1.99", 406),
        ("GET", "/", "1.2.3", 400),
        ("DELETE", f"/resource_providers/{ABSENT}/inventories", "1.4", 405),
        ("DELETE", f"/resource_providers/{ABSENT}/inventories", "1.5", 404),
        ("GET", "/resource_classes", "1.1", 404),
        ("GET", "/usages?project_id=", "1.9", 400),
        ("GET", f"/usages?project_id={'x' * 256}", "1.39", 400),
        ("GET", f"/usages?project_id=p&user_id={'x' * 256}", "1.39", 400),
        ("GET", "/allocation_candidates?resources=VCPU:1&limit=1&limit=x", "1.39", 200),
        ("GET", "/allocation_candidates?resources=VCPU:1&limit=x&limit=1", "1.39", 400),
        ("GET", "/allocation_candidates?resources=VCPU:1&required=X,,&required=HW_CPU_X86_VMX", "1.38", 200),
        ("GET", "/allocation_candidates?resources=VCPU:1&required=X,,&required=HW_CPU_X86_VMX", "1.39", 400),
        (
            "GET",
            "/allocation_candidates?resources_a=VCPU:1&required_b=HW_CPU_X86_VMX&same_subtree=_a%20,_b",
            "1.36",
            200,
        ),
    ],
)
def test_versions_and_queries(client: Client, method: str, path: str, version: str, status: int) -> None:
    assert client.request(method, path, version=version).status == status


def test_the_version_document_is_dated_from_1_15_on(client: Client) -> None:
    assert client.request("GET", "/", token=None, version="1.15").headers["Cache-Control"] == "no-cache"
    assert "Cache-Control" not in client.request("GET", "/", token=None, version="1.14").headers


def test_refusals_have_the_published_texts(client: Client) -> None:
    def detail(method: str, path: str, body: object = None) -> str:
        reply = client.request(method, path, body, version="1.39")
        assert reply.status in (400, 404, 409), reply.raw
        return str(reply.json["errors"][0]["detail"])

    made = client.request("POST", "/resource_providers", {"name": "texts"}, version="1.39").json["uuid"]
    of, candidates = f"/resource_providers/{made}", "/allocation_candidates"
    consumer = f"/allocations/{new_uuid()}"
    claim = {"project_id": "p", "user_id": "u", "consumer_type": "T", "consumer_generation": 3, "allocations": {}}
    old = {"resource_provider_generation": 7}
    changed = "Resource provider's generation already changed. Please update the generation and try again."
    inventory = {"resource_provider_generation": 0, "inventories": {"VCPU": {"total": 1, "reserved": 2}}}
    unknown = {"resource_provider_generation": 0, "inventories": {"CUSTOM_NONE": {"total": 1}}}
    one = {**claim, "consumer_generation": None, "allocations": {made: {"resources": {"CUSTOM_NONE": 1}}}}
    reserved = (
        f"Unable to update inventory for resource provider {made}: Invalid inventory for 'VCPU' on resource provider "
        f"'{made}'. The reserved value is greater than total."
    )
    invalid, form = "Invalid query string parameters: ", "query string parameter in form: "
    for method, path, body, said in (
        ("GET", f"{of}/inventories/VCPU", None, f"No inventory of class VCPU for {made}"),
        (
            "DELETE",
            f"{of}/inventories/VCPU",
            None,
            "No inventory of class VCPU found for delete: No inventory of class VCPU found.",
        ),
        ("PUT", f"{of}/inventories", {**old, "inventories": {}}, "resource provider generation conflict"),
        ("PUT", f"{of}/inventories/VCPU", {**old, "total": 1}, "resource provider generation conflict"),
        (
            "PUT",
            f"{of}/inventories",
            inventory,
            reserved,
        ),
        (
            "PUT",
            f"{of}/inventories",
            unknown,
            f"Unknown resource class in inventory for resource provider {made}: No such resource class CUSTOM_NONE.",
        ),
        ("PUT", f"{of}/traits", {**old, "traits": []}, changed),
        ("PUT", f"{of}/aggregates", {**old, "aggregates": []}, changed),
        ("PUT", consumer, claim, "consumer generation conflict - expected null but got 3"),
        (
            "PUT",
            consumer,
            one,
            f"Unable to allocate inventory for consumer {consumer[-36:]}: No such resource class CUSTOM_NONE.",
        ),
        (
            "GET",
            f"{candidates}?resources=UNKNOWN:1",
            None,
            "Invalid resource class in resources parameter: No such resource class UNKNOWN.",
        ),
        (
            "GET",
            "/resource_providers?resources=UNKNOWN:1",
            None,
            "Invalid resource class in resources parameter: No such resource class UNKNOWN.",
        ),
        ("GET", f"{candidates}?resources=VCPU:0", None, "Requested resource VCPU requires amount >= 1. Got: 0."),
        (
            "GET",
            f"{candidates}?resources=VCPU:x",
            None,
            "Requested resource VCPU expected positive integer amount. Got: x.",
        ),
        (
            "GET",
            f"{candidates}?resources=VCPU",
            None,
            f"Badly formed resources parameter. Expected resources {form}?resources=VCPU:2,MEMORY_MB:1024. Got: VCPU.",
        ),
        (
            "GET",
            f"{candidates}?resources=VCPU:1&limit=0",
            None,
            f"{invalid}'0' does not match '^[1-9][0-9]*$'. Failed validating 'pattern' in schema",
        ),
        (
            "GET",
            f"{candidates}?resources=VCPU:1&group_policy=x",
            None,
            "Invalid query string parameters: 'x' is not one of ['none', 'isolate']",
        ),
        (
            "GET",
            f"{candidates}?resources=VCPU:1&required=",
            None,
            invalid + "Expected 'required' parameter value of the form: HW_CPU_X86_VMX,!CUSTOM_MAGIC. Got: ",
        ),
        (
            "GET",
            "/resource_providers?no=1",
            None,
            "Invalid query string parameters: Additional properties are not allowed ('no' was unexpected)",
        ),
        (
            "GET",
            "/resource_providers?member_of=x",
            None,
            "Invalid query string parameters: Expected 'member_of' parameter to contain valid UUID(s). Got: x",
        ),
        (
            "GET",
            "/traits?name=x",
            None,
            f'Badly formatted name parameter. Expected name {form}?name=[in|startswith]:[name1,name2|prefix]. Got: "x"',
        ),
    ):
        assert detail(method, path, body) == said
    for method, path, body, said in (
        ("POST", "/resource_classes", {"name": "lower"}, "JSON does not validate: 'lower' does not match"),
        ("POST", "/resource_providers", {}, "JSON does not validate: 'name' is a required property"),
        (
            "PUT",
            f"{of}/aggregates",
            {"resource_provider_generation": 0, "aggregates": ["x"]},
            "JSON does not validate: 'x' is not a 'uuid'",
        ),
        ("POST", "/resource_providers", b"{", "Malformed JSON"),
    ):
        assert detail(method, path, body).startswith(said)


def test_errors_have_placements_form_and_codes(client: Client) -> None:
    made = client.request("POST", "/resource_providers", {"name": "h1"}, version="1.39").json
    where = f"/resource_providers/{made['uuid']}/inventories"
    put = {"resource_provider_generation": 7, "inventories": {}}
    [error] = client.request("PUT", where, put, version="1.39").json["errors"]
    assert (error["status"], error["title"], error["code"]) == (409, "Conflict", "placement.concurrent_update")
    assert error["request_id"].startswith("req-")
    [old] = client.request("PUT", where, put, version="1.22").json["errors"]
    assert "code" not in old
    [bad] = client.request("PUT", where, {"inventories": {}}, version="1.39").json["errors"]
    assert (bad["status"], bad["code"]) == (400, "placement.undefined_code")
    [query] = client.request("GET", "/resource_providers?name=a&name=b", version="1.39").json["errors"]
    assert query["code"] == "placement.query.duplicate_key"
    missing = client.request("GET", f"/resource_providers/{new_uuid()}", version="1.39")
    assert missing.json["errors"][0]["code"] == "placement.resource_provider.not_found"


def test_versions_are_negotiated(client: Client) -> None:
    assert client.request("GET", "/traits").status == 404
    assert client.request("GET", "/traits", version="latest").status == 200
    assert client.request("GET", "/traits", version="1.99").status == 406
    assert client.request("DELETE", "/usages", version="1.39").status == 405


@pytest.mark.clients
def test_the_stock_client_manages_providers(server: ApiServer, db: Database) -> None:
    def openstack(*words: str) -> Any:
        command = [
            str(Path(sys.executable).with_name("openstack")), "--os-auth-type", "admin_token", "--os-token", "admin:p",
            "--os-endpoint", f"http://127.0.0.1:{server.port}", "--os-placement-api-version", "1.39", *words,
        ]  # fmt: skip
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout) if ran.stdout.strip() else None

    as_json = ("-f", "json")
    made = openstack("resource", "provider", "create", "h1", *as_json)
    uuid = made["uuid"]
    openstack("resource", "provider", "inventory", "set", uuid, "--resource", "VCPU=8", "--resource",
              "VCPU:allocation_ratio=2.0", "--resource", "MEMORY_MB=1024", *as_json)  # fmt: skip
    openstack("trait", "create", "CUSTOM_FAST")
    openstack("resource", "provider", "trait", "set", uuid, "--trait", "CUSTOM_FAST", *as_json)
    consumer = new_uuid()
    openstack("resource", "provider", "allocation", "set", consumer, "--allocation", f"rp={uuid},VCPU=3",
              "--project-id", "p1", "--user-id", "u1", "--consumer-type", "INSTANCE", *as_json)  # fmt: skip
    [usage] = [row for row in openstack("resource", "provider", "usage", "show", uuid, *as_json)
               if row["resource_class"] == "VCPU"]  # fmt: skip
    assert usage["usage"] == 3
    [candidate] = openstack("allocation", "candidate", "list", "--resource", "VCPU=13", "--required", "CUSTOM_FAST",
                            *as_json)  # fmt: skip
    assert candidate["resource provider"] == uuid
    assert [
        row["name"] for row in openstack("resource", "provider", "list", "--required", "CUSTOM_FAST", *as_json)
    ] == ["h1"]
    openstack("resource", "provider", "allocation", "delete", consumer)
    openstack("resource", "provider", "delete", uuid)
    assert openstack("resource", "provider", "list", *as_json) == []
    assert provider(db, "h1").name == "h1"
