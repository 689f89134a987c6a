"""A key manager in memory, and signers of images."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from cell_service.context import Context
from cell_service.errors import PeerUnavailable

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | dsa.DSAPrivateKey
BEGAN = datetime(2020, 1, 1, tzinfo=UTC)
HASHES: dict[str, Callable[[], hashes.HashAlgorithm]] = {
    "SHA-224": hashes.SHA224,
    "SHA-256": hashes.SHA256,
    "SHA-384": hashes.SHA384,
    "SHA-512": hashes.SHA512,
}


@dataclass
class MemoryCertificates:
    """`down`: no answers."""

    known: dict[str, bytes] = field(default_factory=dict)
    down: bool = False

    def add(self, certificate: x509.Certificate, encoding: Encoding = Encoding.DER) -> str:
        return self.add_bytes(certificate.public_bytes(encoding))

    def add_bytes(self, content: bytes) -> str:
        certificate_id = str(uuid4())
        self.known[certificate_id] = content
        return certificate_id

    def get(self, ctx: Context, certificate_id: str) -> bytes | None:
        if self.down:
            raise PeerUnavailable(service="key manager", reason="it is down")
        return self.known.get(certificate_id)


@dataclass(frozen=True)
class Party:
    """A key with its certificate."""

    key: Key
    certificate: x509.Certificate

    def properties(
        self, content: bytes, certificate_id: str, method: str = "SHA-256", key_type: str = "ECC_SECP384R1"
    ) -> dict[str, str]:
        """The properties of an image with this content that the party has signed."""
        return {
            "img_signature": base64.b64encode(self.sign(content, method)).decode(),
            "img_signature_hash_method": method,
            "img_signature_key_type": key_type,
            "img_signature_certificate_uuid": certificate_id,
        }

    def sign(self, content: bytes, method: str) -> bytes:
        algorithm = HASHES[method]()
        if isinstance(self.key, rsa.RSAPrivateKey):
            pss = padding.PSS(padding.MGF1(algorithm), padding.PSS.MAX_LENGTH)
            return self.key.sign(content, pss, algorithm)
        if isinstance(self.key, ec.EllipticCurvePrivateKey):
            return self.key.sign(content, ec.ECDSA(algorithm))
        return self.key.sign(content, algorithm)


def party(
    name: str,
    issuer: Party | None = None,
    *,
    key: Key | None = None,
    ca: bool = False,
    may_sign_certificates: bool | None = None,
    may_sign: bool = True,
    began: datetime = BEGAN,
    days: int = 36500,
) -> Party:
    """A key and its certificate, signed by the issuer or by itself."""
    key = key or ec.generate_private_key(ec.SECP384R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    cert_sign = ca if may_sign_certificates is None else may_sign_certificates
    usage = x509.KeyUsage(may_sign, False, False, False, False, cert_sign, cert_sign, False, False)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(began)
        .not_valid_after(began + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .sign(issuer.key if issuer else key, hashes.SHA256())
    )
    return Party(key, made)
