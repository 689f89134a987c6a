"""Key pairs: whose they are, and what counts as a key."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from api_cell.config import ApiSection, ApiSettings, Quota
from tests.compute.test_wire import SSH_KEY
from tests.edge import reference
from tests.edge.compute_api import ComputeApi


def test_a_key_made_here_fits_its_private_half(api: ComputeApi) -> None:
    made = api.client.post("/os-keypairs", {"keypair": {"name": "k"}}).json["keypair"]

    private = load_pem_private_key(made["private_key"].encode(), None)
    public = private.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    assert made["public_key"].startswith(public.decode())
    assert len(made["fingerprint"].split(":")) == 16
    assert "private_key" not in api.client.get("/os-keypairs/k").json["keypair"]


def test_the_fingerprint_is_the_published_one(api: ComputeApi) -> None:
    reference.demand()
    published = reference.sample("os-keypairs/keypairs-import-post-resp.json")["keypair"]
    body = {"keypair": {"name": "k", "public_key": published["public_key"]}}

    assert api.client.post("/os-keypairs", body).json["keypair"]["fingerprint"] == published["fingerprint"]


def test_a_certificate_is_made_and_taken_back(api: ComputeApi) -> None:
    made = api.client.post("/os-keypairs", {"keypair": {"name": "c", "type": "x509"}}, version="2.2").json["keypair"]
    again = {"keypair": {"name": "d", "type": "x509", "public_key": made["public_key"]}}

    assert made["public_key"].startswith("-----BEGIN CERTIFICATE")
    assert api.client.post("/os-keypairs", again, version="2.2").json["keypair"]["fingerprint"] == made["fingerprint"]


@pytest.mark.parametrize("key", ["", "ssh-rsa", "ssh-rsa AAAA", "ssh-ed25519 ÄÖ", "bad " + SSH_KEY, "x" * 5000])
def test_what_is_no_key_is_refused(api: ComputeApi, key: str) -> None:
    reply = api.client.post("/os-keypairs", {"keypair": {"name": "k", "public_key": key}})

    assert reply.fault[0] == "badRequest"
    assert api.client.get("/os-keypairs").json == {"keypairs": []}


def test_names(api: ComputeApi) -> None:
    def status(name: str, version: str) -> int:
        body = {"keypair": {"name": name, "public_key": SSH_KEY}}
        return api.client.post("/os-keypairs", body, version=version).status

    assert status("a@b.c", "2.91") == 400
    assert status("a@b.c", "2.92") == 201
    assert status("a@b.c", "2.92") == 409
    assert status("a/b", "2.92") == 400
    assert api.client.get("/os-keypairs/a%40b.c").status == 200
    assert api.client.post("/os-keypairs", {"keypair": {"name": "n"}}, version="2.92").status == 400


def test_keys_belong_to_their_user(api: ComputeApi) -> None:
    ann = api.as_user("ann", "p1")
    ann.post("/os-keypairs", {"keypair": {"name": "k", "public_key": SSH_KEY}})

    assert api.as_user("bob", "p1").get("/os-keypairs/k").status == 404
    assert api.as_user("ann", "p2").get("/os-keypairs/k").status == 200
    assert api.as_user("bob", "p1").get("/os-keypairs?user_id=ann", version="2.10").fault[0] == "forbidden"
    assert len(api.client.get("/os-keypairs?user_id=ann", version="2.10").json["keypairs"]) == 1
    assert api.client.get("/os-keypairs?user_id=ann", version="2.9").json["keypairs"] == []
    assert api.client.delete("/os-keypairs/k?user_id=ann", version="2.10").status == 204
    assert ann.delete("/os-keypairs/k").status == 404


def test_pages_by_name(api: ComputeApi) -> None:
    for name in "bca":
        api.client.post("/os-keypairs", {"keypair": {"name": name, "public_key": SSH_KEY}})
    first = api.client.get("/os-keypairs?limit=2", version="2.35").json
    second = api.client.get(first["keypairs_links"][0]["href"].partition("/v2.1")[2], version="2.35").json

    assert [k["keypair"]["name"] for k in first["keypairs"] + second["keypairs"]] == ["a", "b", "c"]
    assert api.client.get("/os-keypairs?marker=x", version="2.35").status == 400


def test_the_quota_holds_and_is_given_back(tmp_path: Path) -> None:
    settings = ApiSettings(api=ApiSection(auth_strategy="noauth2"), quota=Quota(key_pairs=1))
    api = ComputeApi(tmp_path, settings)
    try:
        first = {"keypair": {"name": "a", "public_key": SSH_KEY}}
        second = {"keypair": {"name": "b", "public_key": SSH_KEY}}
        assert api.client.post("/os-keypairs", first).status == 200
        assert api.client.post("/os-keypairs", second).fault[0] == "forbidden"
        assert api.client.delete("/os-keypairs/a").status == 202
        assert api.client.post("/os-keypairs", second).status == 200
    finally:
        api.close()
