"""Images whose signature is right or wrong, and signers who are trusted or not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from cell_service.context import ManualClock, internal
from cell_service.errors import ImageUnacceptable, PeerUnavailable
from cell_service.model.instance import Flavor
from cell_service.model.lifecycle import State, VmState
from cell_service.operations.builds import REBUILD
from compute_host.image_cache import ImageCache
from compute_host.image_settings import SignatureOptions
from compute_host.image_signatures import Signatures
from tests.suites.key_manager import BEGAN, Key, MemoryCertificates, Party, party
from tests.suites.one_cell import OneCell
from tests.suites.peers import MemoryImages

FLAVOR = Flavor(flavorid="1", name="small", vcpus=1, memory_mib=64, root_gib=1)
CONTENT = b"the content that was signed" * 1000
ON = SignatureOptions(verify_glance_signatures=True)


@dataclass
class Bench:
    """A cache of images, with a key manager that knows an authority and a signer."""

    directory: Path
    images: MemoryImages = field(default_factory=MemoryImages)
    certificates: MemoryCertificates = field(default_factory=MemoryCertificates)
    authority: Party = field(default_factory=lambda: party("authority", ca=True))
    clock: ManualClock = field(default_factory=ManualClock)

    def __post_init__(self) -> None:
        self.signer = party("signer", self.authority)
        self.signer_id = self.certificates.add(self.signer.certificate)
        self.authority_id = self.certificates.add(self.authority.certificate)

    def add(self, **changed: str) -> str:
        """An image whose record says that the signer has signed CONTENT."""
        properties = {**self.signer.properties(CONTENT, self.signer_id), **changed}
        return self.images.add(CONTENT, properties={name: value for name, value in properties.items() if value})

    def cache(self, options: SignatureOptions) -> ImageCache:
        signatures = Signatures(options, self.certificates, self.clock)
        return ImageCache(self.images, self.directory, signatures=signatures)

    def use(self, image_id: str, options: SignatureOptions = ON, trusted: tuple[str, ...] = ()) -> bytes:
        with self.cache(options).image(internal(), image_id, FLAVOR, trusted) as (_record, path):
            return path.read_bytes()

    def refused(self, image_id: str, options: SignatureOptions = ON, trusted: tuple[str, ...] = ()) -> str:
        with pytest.raises(ImageUnacceptable) as error:
            self.use(image_id, options, trusted)
        assert not self.directory.exists() or list(self.directory.iterdir()) == []
        return str(error.value)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "cache")


# -- the signature -----------------------------------------------------------------------------------

KEYS: dict[str, Callable[[], Key]] = {
    "RSA-PSS": lambda: rsa.generate_private_key(65537, 2048),
    "DSA": lambda: dsa.generate_private_key(2048),
    "ECC_SECP384R1": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ECC_SECP521R1": lambda: ec.generate_private_key(ec.SECP521R1()),
}


@pytest.mark.parametrize("method", ["SHA-224", "SHA-256", "SHA-384", "SHA-512"])
@pytest.mark.parametrize("key_type", KEYS)
def test_a_right_signature_is_accepted_and_a_wrong_one_is_not(bench: Bench, key_type: str, method: str) -> None:
    signer = party("signer", key=KEYS[key_type]())
    properties = signer.properties(CONTENT, bench.certificates.add(signer.certificate), method, key_type)
    assert bench.refused(bench.images.add(CONTENT + b"!", properties=properties)).endswith("its signature is wrong")
    assert bench.use(bench.images.add(CONTENT, properties=properties)) == CONTENT


WRONG: dict[str, tuple[dict[str, str], str]] = {
    "no signature": ({"img_signature": ""}, "not signed: img_signature missing"),
    "no certificate": ({"img_signature_certificate_uuid": ""}, "img_signature_certificate_uuid missing"),
    "no base64": ({"img_signature": "§§§"}, "not base64"),
    "other bytes": ({"img_signature": "AAAA"}, "signature is wrong"),
    "other hash": ({"img_signature_hash_method": "SHA-512"}, "signature is wrong"),
    "unknown hash": ({"img_signature_hash_method": "MD5"}, "img_signature_hash_method is none of"),
    "other key": ({"img_signature_key_type": "RSA-PSS"}, "key is not RSA-PSS"),
    "other curve": ({"img_signature_key_type": "ECC_SECP521R1"}, "key is not ECC_SECP521R1"),
    "unknown key": ({"img_signature_key_type": "RSA-PKCS1"}, "img_signature_key_type is none of"),
    "unknown certificate": ({"img_signature_certificate_uuid": "b" * 36}, "there is no certificate"),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_image_that_is_not_signed_as_it_should_be_is_refused(bench: Bench, case: str) -> None:
    changed, words = WRONG[case]
    image_id = bench.add(**changed)
    assert words in bench.refused(image_id)
    assert words in bench.refused(image_id, SignatureOptions(), (bench.authority_id,))
    assert bench.use(image_id, SignatureOptions()) == CONTENT


def test_a_certificate_may_be_stored_as_pem_and_rubbish_is_refused(bench: Bench) -> None:
    pem = bench.certificates.add(bench.signer.certificate, Encoding.PEM)
    assert bench.use(bench.add(img_signature_certificate_uuid=pem)) == CONTENT
    for rubbish in (b"", b"-----BEGIN CERTIFICATE-----\n", b"\x30\x82" * 40):
        bad = bench.certificates.add_bytes(rubbish)
        with pytest.raises(ImageUnacceptable, match=r"no X\.509 certificate"):
            bench.use(bench.add(img_signature_certificate_uuid=bad))


def test_a_key_manager_that_is_down_is_another_failure_than_a_wrong_signature(bench: Bench) -> None:
    bench.certificates.down = True
    with pytest.raises(PeerUnavailable):
        bench.use(bench.add())
    assert bench.images.downloads == []


def test_an_image_in_the_cache_is_verified_for_each_request_that_wants_it(bench: Bench) -> None:
    bad = bench.images.add(b"other content", properties=bench.signer.properties(CONTENT, bench.signer_id))
    cache = bench.cache(SignatureOptions())
    with cache.image(internal(), bad, FLAVOR) as (_record, path):
        with pytest.raises(ImageUnacceptable), cache.image(internal(), bad, FLAVOR, (bench.authority_id,)):
            pass
        assert path.exists(), "a guest that needs no signature is being made from it"


def test_a_content_is_read_once_for_one_signature(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, image_id = bench.cache(ON), bench.add()
    cache.fetch(internal(), image_id)
    monkeypatch.setattr("compute_host.image_signatures.Signer.has_signed", lambda *_args: pytest.fail("read again"))
    with cache.image(internal(), image_id, FLAVOR):
        pass


# -- the signer --------------------------------------------------------------------------------------

TRUSTING = replace(ON, enable_certificate_validation=True)


def test_a_signer_is_trusted_by_the_request_or_else_by_default(bench: Bench) -> None:
    image_id, stranger = bench.add(), bench.certificates.add(party("stranger", ca=True).certificate)
    unknown = "Certificate chain building failed"
    assert bench.use(image_id, ON) == CONTENT
    assert bench.use(image_id, SignatureOptions(), (stranger, bench.authority_id)) == CONTENT
    with pytest.raises(ImageUnacceptable, match=unknown):
        bench.use(image_id, SignatureOptions(), (stranger,))
    with pytest.raises(ImageUnacceptable, match=unknown):
        bench.use(image_id, TRUSTING)
    by_default = replace(TRUSTING, default_trusted_certificate_ids=(bench.authority_id,))
    assert bench.use(image_id, by_default) == CONTENT
    with pytest.raises(ImageUnacceptable, match=unknown):
        bench.use(image_id, by_default, (stranger,))
    assert bench.use(image_id, replace(by_default, default_trusted_certificate_ids=(bench.signer_id,))) == CONTENT


def test_a_trusted_certificate_must_be_in_the_key_manager(bench: Bench) -> None:
    assert "there is no certificate c" in bench.refused(bench.add(), ON, ("c" * 36,))


def years(count: int) -> datetime:
    return BEGAN + timedelta(days=365 * count)


@pytest.mark.parametrize(
    ("issuer", "signer", "words"),
    [
        ({}, {"days": 1}, "expired"),
        ({}, {"began": years(90)}, "not valid before"),
        ({}, {"may_sign": False}, "not for signatures"),
        ({"days": 1}, {}, "its issuer: it has expired"),
        ({"ca": False}, {}, "no certificate authority"),
        ({"may_sign_certificates": False}, {}, "may not sign certificates"),
    ],
)
def test_a_certificate_that_is_not_valid_is_refused(
    bench: Bench, issuer: dict[str, object], signer: dict[str, object], words: str
) -> None:
    authority = party("other authority", **{"ca": True, **issuer})  # type: ignore[arg-type]
    made = party("other signer", authority, **signer)  # type: ignore[arg-type]
    properties = made.properties(CONTENT, bench.certificates.add(made.certificate))
    image_id, trusted = bench.images.add(CONTENT, properties=properties), bench.certificates.add(authority.certificate)
    assert words in bench.refused(image_id, SignatureOptions(), (trusted,))


def test_a_name_of_a_trusted_authority_is_not_enough(bench: Bench) -> None:
    pretender = party("authority", ca=True)
    assert isinstance(pretender.certificate, x509.Certificate)
    made = party("signer", pretender)
    properties = made.properties(CONTENT, bench.certificates.add(made.certificate))
    words = bench.refused(bench.images.add(CONTENT, properties=properties), ON, (bench.authority_id,))
    assert "Certificate chain building failed" in words


# -- servers -----------------------------------------------------------------------------------------


@pytest.fixture
def cell(tmp_path: Path) -> OneCell:
    return OneCell(tmp_path)


def booted(cell: OneCell, *hosts: str, **fields: Any) -> str:
    uuid = cell.boot(*hosts, **fields)
    for name in hosts:
        cell.hosts[name].claim()
    return uuid


def test_a_server_from_an_image_with_a_wrong_signature_does_not_become_active(cell: OneCell) -> None:
    signer = party("signer")
    trusted = cell.certificates.add(signer.certificate)
    properties = signer.properties(CONTENT, trusted)
    good, bad = (cell.images.add(content, properties=properties) for content in (CONTENT, b"other" * 100))
    for name in ("h1", "h2"):
        cell.host(name)
    uuid = booted(cell, "h1", "h2", image_ref=bad, trusted_image_certificates=(trusted,))
    assert cell.instance(uuid).state == State(VmState.ERROR)
    fault = cell.instance(uuid).fault
    assert fault is not None
    assert "signature is wrong" in fault.message
    assert cell.guests_of(uuid) == []
    for fields in ({"image_ref": good, "trusted_image_certificates": (trusted,)}, {"image_ref": bad}):
        assert cell.instance(booted(cell, "h1", **fields)).state == State(VmState.ACTIVE)


def test_a_server_is_not_rebuilt_from_an_image_with_a_wrong_signature(cell: OneCell) -> None:
    cell.signatures = ON
    signer = party("signer")
    properties = signer.properties(CONTENT, cell.certificates.add(signer.certificate))
    good, bad = (cell.images.add(content, properties=properties) for content in (CONTENT, b"other" * 100))
    host = cell.host("h1")
    uuid = booted(cell, "h1", image_ref=good)
    assert cell.instance(uuid).state == State(VmState.ACTIVE)
    cell.act(uuid, REBUILD, image_ref=bad)
    host.claim()
    assert cell.instance(uuid).state == State(VmState.ERROR)
    assert uuid in host.guests(), "its disks are destroyed only when the image is good"
