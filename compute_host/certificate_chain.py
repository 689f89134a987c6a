"""Whether a certificate was issued by a trusted one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

_E = TypeVar("_E", bound=x509.ExtensionType)


def der_of(content: bytes) -> bytes | None:
    """The X.509 certificate in DER; None: it is none, or has a key that is not supported."""
    try:
        load = x509.load_pem_x509_certificate if content.lstrip().startswith(b"-") else x509.load_der_x509_certificate
        certificate = load(content)
        certificate.public_key()
        return certificate.public_bytes(Encoding.DER)
    except (ValueError, UnsupportedAlgorithm):
        return None


def fault_of(certificate: bytes, trusted: Sequence[bytes], now: datetime) -> str | None:
    """Why the certificate can't be trusted; None: it, or one that it was issued by, is among the trusted ones. All are
    in DER."""
    signer = x509.load_der_x509_certificate(certificate)
    anchors = [x509.load_der_x509_certificate(each) for each in trusted]
    if (fault := fault_of_dates(signer, now)) is not None:
        return fault
    usage = _extension(signer, x509.KeyUsage)
    if usage is not None and not usage.digital_signature:
        return "it is not for signatures"
    if signer in anchors:
        return None
    faults = [_fault_of_issuer(each, now) for each in anchors if _has_issued(each, signer)]
    if not faults:
        return "Certificate chain building failed: none of the trusted certificates has issued it"
    return None if None in faults else faults[0]


def fault_of_dates(certificate: x509.Certificate, now: datetime) -> str | None:
    """Why the certificate is not valid now; None: it is."""
    now = now.astimezone(UTC)
    if now < certificate.not_valid_before_utc:
        return f"it is not valid before {certificate.not_valid_before_utc:%Y-%m-%d}"
    if now > certificate.not_valid_after_utc:
        return f"it has expired on {certificate.not_valid_after_utc:%Y-%m-%d}"
    return None


def _has_issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _fault_of_issuer(issuer: x509.Certificate, now: datetime) -> str | None:
    if (fault := fault_of_dates(issuer, now)) is not None:
        return f"its issuer: {fault}"
    constraints, usage = _extension(issuer, x509.BasicConstraints), _extension(issuer, x509.KeyUsage)
    if constraints is None or not constraints.ca:
        return "its issuer is no certificate authority"
    if usage is None or not usage.key_cert_sign:
        return "its issuer may not sign certificates"
    return None


def _extension(certificate: x509.Certificate, kind: type[_E]) -> _E | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except (x509.ExtensionNotFound, ValueError):
        return None
