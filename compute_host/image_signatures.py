"""Signatures of images: who has signed an image, whether that signer is trusted, and whether the content is what was
signed. The properties and the rules are Nova's (`img_signature` and so on)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from cell_service.context import Clock, Context
from cell_service.errors import ImageUnacceptable
from cell_service.peers.certificates import Certificates
from cell_service.peers.image import Image
from compute_host import certificate_chain
from compute_host.image_settings import SignatureOptions

PROPERTIES = ("img_signature", "img_signature_hash_method", "img_signature_key_type", "img_signature_certificate_uuid")
HASHES: dict[str, Callable[[], hashes.HashAlgorithm]] = {
    "SHA-224": hashes.SHA224,
    "SHA-256": hashes.SHA256,
    "SHA-384": hashes.SHA384,
    "SHA-512": hashes.SHA512,
}
CURVES = {
    f"ECC_{name}": name.lower()
    for name in ("SECT571K1", "SECT409K1", "SECT571R1", "SECT409R1", "SECP521R1", "SECP384R1")
}
_CHUNK = 2**20


@dataclass(frozen=True, slots=True)
class Signer:
    """The signature of one image, and the certificate (DER) of its signer."""

    certificate: bytes
    signature: bytes
    method: str
    key_type: str

    def has_signed(self, path: Path) -> bool:
        """Whether the file is what was signed. Raises OSError."""
        algorithm = HASHES[self.method]()
        digest = hashes.Hash(algorithm)
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
        key = x509.load_der_x509_certificate(self.certificate).public_key()
        seen, hashed = digest.finalize(), Prehashed(algorithm)
        try:
            if isinstance(key, rsa.RSAPublicKey):
                pss = padding.PSS(padding.MGF1(algorithm), padding.PSS.AUTO)
                key.verify(self.signature, seen, pss, hashed)
            elif isinstance(key, ec.EllipticCurvePublicKey):
                key.verify(self.signature, seen, ec.ECDSA(hashed))
            elif isinstance(key, dsa.DSAPublicKey):
                key.verify(self.signature, seen, hashed)
            else:
                return False
        except InvalidSignature:
            return False
        return True


class Signatures:
    """The host's rules for signatures."""

    def __init__(self, options: SignatureOptions, certificates: Certificates | None, clock: Clock) -> None:
        self._options, self._certificates, self._clock = options, certificates, clock

    def signer(self, ctx: Context, image: Image, requested: tuple[str, ...]) -> Signer | None:
        """The image's signer, whose signature is to be verified; None: signatures are not verified.

        `requested`: certificates that the server's owner trusts; with any, the signature is verified and the signer's
        certificate validated in any case. Raises ImageUnacceptable, PeerUnavailable.
        """
        options = self._options
        if not requested and not options.verify_glance_signatures:
            return None
        trusted = requested
        if not requested and options.enable_certificate_validation:
            trusted = options.default_trusted_certificate_ids
        missing = [name for name in PROPERTIES if not image.properties.get(name)]
        if missing:
            raise _refused(image, f"it is not signed: {', '.join(missing)} missing")
        signature, method, key_type, certificate_id = (image.properties[name] for name in PROPERTIES)
        certificate = self._certificate(ctx, image, certificate_id)
        signer = Signer(certificate, _decoded(image, signature), method, key_type)
        _check_kind(image, signer)
        if trusted or options.enable_certificate_validation:
            anchors = [self._certificate(ctx, image, each) for each in trusted]
            fault = certificate_chain.fault_of(certificate, anchors, self._clock.now())
        else:
            fault = certificate_chain.fault_of_dates(x509.load_der_x509_certificate(certificate), self._clock.now())
        if fault is not None:
            raise _refused(image, f"its signer's certificate {certificate_id} is not valid: {fault}")
        return signer

    def _certificate(self, ctx: Context, image: Image, certificate_id: str) -> bytes:
        """The certificate, in DER."""
        content = None if self._certificates is None else self._certificates.get(ctx, certificate_id)
        if content is None:
            raise _refused(image, f"there is no certificate {certificate_id} in the key manager")
        der = certificate_chain.der_of(content)
        if der is None:
            raise _refused(image, f"{certificate_id} in the key manager is no X.509 certificate")
        return der


def _check_kind(image: Image, signer: Signer) -> None:
    """Raises ImageUnacceptable for what can't be verified, or does not fit the signer's key."""
    if signer.method not in HASHES:
        raise _refused(image, f"its img_signature_hash_method is none of {', '.join(HASHES)}")
    key = x509.load_der_x509_certificate(signer.certificate).public_key()
    fits = {
        "RSA-PSS": isinstance(key, rsa.RSAPublicKey),
        "DSA": isinstance(key, dsa.DSAPublicKey),
        **{
            name: isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == curve
            for name, curve in CURVES.items()
        },
    }
    if signer.key_type not in fits:
        raise _refused(image, f"its img_signature_key_type is none of {', '.join(fits)}")
    if not fits[signer.key_type]:
        raise _refused(image, f"its signer's key is not {signer.key_type}")


def _decoded(image: Image, signature: str) -> bytes:
    try:
        return base64.b64decode("".join(signature.split()), validate=True)
    except (binascii.Error, ValueError):
        raise _refused(image, "its img_signature is not base64") from None


def _refused(image: Image, reason: str) -> ImageUnacceptable:
    return ImageUnacceptable(image_id=image.id, reason=reason)
