"""Keys and certificates themselves: fingerprints of those that are imported, and making new ones."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from cell_service.errors import Invalid

RSA_BITS = 2048
_COMMENT = "Generated-by-Polycell"
_CERTIFICATE_DAYS = 3650
_UPN = ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")


@dataclass(frozen=True, slots=True)
class Key:
    """The public side (an OpenSSH line, or a certificate in PEM), its fingerprint, and the private key if it is new."""

    public_key: str
    fingerprint: str
    private_key: str | None = None


def imported(kind: str, public_key: str) -> Key:
    """The user's own key (`kind` ssh) or certificate (x509). Raises Invalid for what is neither."""
    try:
        return Key(public_key, _ssh_fingerprint(public_key) if kind == "ssh" else _x509_fingerprint(public_key))
    except (ValueError, IndexError, UnicodeEncodeError, UnsupportedAlgorithm) as error:
        raise Invalid(reason="Keypair data is invalid: failed to generate fingerprint") from error


def generated(kind: str, user_id: str, now: datetime) -> Key:
    """A new RSA key, or a certificate for the user with a new key."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    if kind == "x509":
        public = _certificate(private, user_id, now)
        pem = private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Key(public, _x509_fingerprint(public), pem.decode())
    line = private.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    public = f"{line.decode()} {_COMMENT}"
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    return Key(public, _ssh_fingerprint(public), pem.decode())


def _ssh_fingerprint(public_key: str) -> str:
    """The MD5 of the key's bytes, in pairs of hex digits with colons between."""
    raw = public_key.strip().encode()
    key = serialization.load_ssh_public_key(raw)
    line = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return _pairs(hashlib.md5(base64.b64decode(line.split()[1]), usedforsecurity=False).hexdigest())


def _x509_fingerprint(certificate: str) -> str:
    return _pairs(x509.load_pem_x509_certificate(certificate.encode()).fingerprint(hashes.SHA1()).hex())


def _pairs(digits: str) -> str:
    return ":".join(digits[at : at + 2] for at in range(0, len(digits), 2))


def _certificate(private: rsa.RSAPrivateKey, user_id: str, now: datetime) -> str:
    """A self-signed client certificate that names the user, as WinRM wants it."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, user_id[:64] or "user")])
    principal = f"{user_id}@localhost".encode()
    utf8_string = b"\x0c" + _der_length(len(principal)) + principal
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=_CERTIFICATE_DAYS))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.OtherName(_UPN, utf8_string)]), critical=False)
        .sign(private, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


def _der_length(length: int) -> bytes:
    if length < 0x80:
        return bytes([length])
    digits = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([0x80 | len(digits)]) + digits
