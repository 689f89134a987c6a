"""Accounts at other services as keystoneauth reads them from nova.conf, and certificates of one's own."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from textwrap import dedent
from threading import Thread

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from api_cell.edge.keystone import Keystone
from cell_service.config import load, read
from cell_service.context import internal
from cell_service.errors import Invalid, PeerUnavailable
from cell_service.peers.session import Peer
from cell_service.peers.settings import GlanceSettings, KeystoneAuthtoken
from tests.suites.companions import Companions


def section(directory: Path, text: str) -> GlanceSettings:
    path = directory / "nova.conf"
    path.write_text(dedent(text))
    return read(load([str(path)]), GlanceSettings)


@pytest.fixture
def credential(cloud: Companions) -> Iterator[tuple[str, str]]:
    """Id and secret of an application credential of the administrator's."""
    identity = cloud.sdk().identity
    made = identity.create_application_credential(identity.get_user_id(), "for-tests", roles=[{"name": "admin"}])
    yield made.id, made.secret
    identity.delete_application_credential(identity.get_user_id(), made.id)


def images_of(settings: GlanceSettings) -> int:
    """The status of a list of images, asked with the section's account."""
    return Peer("image", settings, "/v2").ask(internal(), "GET", "/images").status


def test_an_application_credential_is_an_account(
    cloud: Companions, credential: tuple[str, str], tmp_path: Path
) -> None:
    text = f"""
        [glance]
        auth_type = v3applicationcredential
        auth_url = {cloud.identity.url}/v3
        application_credential_id = {credential[0]}
        application_credential_secret = {{secret}}
        """
    settings = section(tmp_path, text.format(secret=credential[1]))
    assert images_of(settings) == 200
    assert credential[1] not in repr(settings)
    with pytest.raises(PeerUnavailable, match="the identity service refuses our account"):
        images_of(section(tmp_path, text.format(secret="wrong")))


def test_tokens_are_validated_with_an_application_credential(cloud: Companions, credential: tuple[str, str]) -> None:
    account = {
        "auth_url": f"{cloud.identity.url}/v3",
        "application_credential_id": credential[0],
        "application_credential_secret": credential[1],
    }
    keystone = Keystone(KeystoneAuthtoken(auth_type="v3applicationcredential", account=account))
    assert keystone.authenticate(cloud.token(), None).user_name == "admin"


def test_several_sections_may_share_the_account_of_one(cloud: Companions, tmp_path: Path) -> None:
    settings = cloud.glance
    text = f"""
        [glance]
        auth_section = service_user
        [service_user]
        auth_type = password
        auth_url = {settings.auth_url}
        username = {settings.account["username"]}
        password = {settings.account["password"]}
        """
    assert images_of(section(tmp_path, text)) == 200


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("auth_type = v9", r"\[glance\] auth_type: there is no plugin 'v9'"),
        ("auth_type = v3applicationcredential\nauth_url = http://x", r"\[glance\] .*application credential"),
        ("insecure = perhaps", r"\[glance\] insecure: .*perhaps"),
    ],
)
def test_what_is_no_account_is_refused_when_the_service_starts(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(Invalid, match=reason):
        Peer("image", section(tmp_path, f"[glance]\n{text}\n"))


class Authority:
    """Signs certificates for 127.0.0.1, in a directory."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory, self.name = directory, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.cafile = self._write(f"{name}.pem", self._signed(self._subject, self._key.public_key(), is_ca=True))

    def issue(self, name: str) -> tuple[str, str]:
        """The files of a certificate and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        secret = key.private_bytes(encoding, form, serialization.NoEncryption())
        certificate = self._signed(subject, key.public_key(), is_ca=False)
        return self._write(f"{name}.crt", certificate), self._write(f"{name}.key", secret)

    def _signed(self, subject: x509.Name, public: ec.EllipticCurvePublicKey, *, is_ca: bool) -> bytes:
        now = datetime.now(UTC)
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(names, critical=False)
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        return made.public_bytes(serialization.Encoding.PEM)

    def _write(self, name: str, content: bytes) -> str:
        path = self.directory / name
        path.write_bytes(content)
        return str(path)


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"{}"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is written to the tests' output."""


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ours")


@pytest.fixture
def url(ours: Authority) -> Iterator[str]:
    """A service whose certificate our authority has signed, and which asks its clients for one."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*ours.issue("server"))
    tls.load_verify_locations(ours.cafile)
    tls.verify_mode = ssl.CERT_REQUIRED
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join(10)


def test_certificates_of_a_private_authority_hold_both_ways(ours: Authority, url: str, tmp_path: Path) -> None:
    certfile, keyfile = ours.issue("client")
    stranger = Authority(tmp_path, "stranger")

    def status(**options: object) -> int:
        settings = GlanceSettings(auth_type="none", endpoint_override=url, **options)  # type: ignore[arg-type]
        return Peer("image", settings).ask(internal(), "GET", "/").status

    assert status(cafile=ours.cafile, certfile=certfile, keyfile=keyfile) == 200
    assert status(insecure=True, certfile=certfile, keyfile=keyfile) == 200
    for wrong in (
        {"certfile": certfile, "keyfile": keyfile},
        {"cafile": stranger.cafile, "certfile": certfile, "keyfile": keyfile},
        {"cafile": ours.cafile},
    ):
        with pytest.raises(PeerUnavailable, match="certificates of both sides do not fit"):
            status(**wrong)
