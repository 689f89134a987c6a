"""Answering a guest's request: which server it comes from, what is known of it, which document. It uses HTTP's words
but no HTTP library."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from cell_service.context import Clock, Context
from cell_service.errors import BadMethod, Forbidden, Invalid, NotFound
from cell_service.metadata import documents, ec2
from cell_service.metadata.config import MetadataSettings
from cell_service.metadata.content import Content, Vendor, new_seed, plain_address
from cell_service.metadata.documents import LATEST, NETWORK_DATA, PASSWORD, VENDOR_DATA, VENDOR_DATA_2
from cell_service.metadata.instances import Instances
from cell_service.metadata.password import MOST_BYTES
from cell_service.metadata.vendordata import VendorData
from cell_service.peers.network import Networks, PortOwner
from cell_service.ttl_cache import TtlCache

_ALWAYS_FRESH = (PASSWORD, NETWORK_DATA)
"""Documents that a guest reads again when something was changed."""
TEXT, JSON, BYTES = "text/plain; charset=UTF-8", "application/json", "application/octet-stream"


@dataclass(frozen=True, slots=True)
class MetadataQuery:
    """A request: `remote` is the address that it came from, header names are in small letters."""

    method: str
    path: str
    remote: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Document:
    """A document that a guest reads, or the empty result of posting one."""

    body: bytes
    content_type: str = TEXT


class MetadataService:
    """Thread-safe. `networks` None: it finds only servers that the proxy names, with the addresses that cells know."""

    def __init__(
        self,
        instances: Instances,
        networks: Networks | None,
        settings: MetadataSettings,
        clock: Clock,
        vendor: VendorData | None = None,
    ) -> None:
        self._instances, self._networks, self._settings = instances, networks, settings
        self._vendor = vendor or VendorData(settings)
        seconds = settings.api.metadata_cache_expiration
        self._kept: TtlCache[str, Content] = TtlCache(clock, seconds)
        self._vendors: TtlCache[str, Vendor] = TtlCache(clock, seconds)

    def answer(self, ctx: Context, question: MetadataQuery) -> Document:
        """The document, or the result of posting one. The root, which is the same for all, needs no signature.

        Raises NotFound for unknown documents, for servers that do not exist, and for foreign addresses; Forbidden
        for a signature that is not the proxy's; Invalid, BadMethod, Conflict; Unavailable when it can't be known now.
        """
        steps = [step for step in question.path.split("?")[0].split("/") if step]
        if not steps and question.method in ("GET", "HEAD", "OPTIONS"):
            return _lines((*ec2.VERSIONS, LATEST))
        name = steps[2] if len(steps) == 3 and steps[0] == "openstack" else ""
        is_password = name == PASSWORD
        if question.method not in ("GET", "HEAD") and not (is_password and question.method == "POST"):
            raise BadMethod(method=question.method, allow="GET, HEAD")
        content = self._asking(ctx, question, fresh=name in _ALWAYS_FRESH)
        if question.method == "POST":
            return self._take_password(ctx, content, steps[1], question.body)
        if steps[-1:] == [VENDOR_DATA]:
            content = content.with_vendor(self._vendor.about(ctx, content, dynamic=False))
        if steps[-1:] == [VENDOR_DATA_2]:
            content = content.with_vendor(self._vendor_of(ctx, content))
        return _reported(content, steps)

    def may_take_long(self, question: MetadataQuery) -> bool:
        """Whether the answer waits for services of the deployer."""
        return self._vendor.dynamic and question.path.rstrip("/").endswith(VENDOR_DATA_2)

    def close(self) -> None:
        self._vendor.close()

    # -- the requesting server --------------------------------------------------------------------

    def _asking(self, ctx: Context, question: MetadataQuery, *, fresh: bool) -> Content:
        """The server that the request comes from: the one that has the address, and whose project is that of the port
        with the address. Raises NotFound when there is none, or more than one."""
        if self._settings.proxy.service_metadata_proxy:
            owner, address = self._by_proxy(question.headers)
            return self._content(ctx, owner, address, fresh=fresh)
        owners, address = self._by_address(ctx, question)
        found = []
        for owner in owners:
            with contextlib.suppress(NotFound):
                found.append(self._content(ctx, owner, address, fresh=fresh))
        if len(found) != 1:
            raise NotFound(reason="There is no such server.")
        return found[0]

    def _by_address(self, ctx: Context, question: MetadataQuery) -> tuple[tuple[PortOwner, ...], str]:
        forwarded = question.headers.get("x-forwarded-for", "") if self._settings.api.use_forwarded_for else ""
        address = plain_address((forwarded or question.remote).split(",")[0])
        if address is None or self._networks is None:
            raise NotFound(reason="There is no such server.")
        return self._networks.owners(ctx, address), address

    def _by_proxy(self, headers: Mapping[str, str]) -> tuple[PortOwner, str]:
        uuid, project_id = headers.get("x-instance-id", ""), headers.get("x-tenant-id", "")
        if not uuid or not project_id:
            raise Invalid(reason="X-Instance-ID or X-Tenant-ID header is missing from the request.")
        secret = self._settings.proxy.metadata_proxy_shared_secret.encode()
        expected = hmac.new(secret, uuid.encode(), hashlib.sha256).hexdigest()
        given = headers.get("x-instance-id-signature", "")
        if not hmac.compare_digest(expected.encode(), given.encode()):
            raise Forbidden(reason="Invalid proxy request signature.")
        address = plain_address(headers.get("x-forwarded-for", "").split(",")[0])
        if address is None:
            raise Invalid(reason="X-Forwarded-For is missing from the request.")
        return PortOwner(uuid, project_id), address

    # -- what is known ----------------------------------------------------------------------------

    def _content(self, ctx: Context, owner: PortOwner, address: str, *, fresh: bool) -> Content:
        """The server with its ports: from the network service where the cell's row may be out of date. Raises NotFound
        unless it is of that project, and has the address."""
        content = self._known(ctx, owner.instance_uuid, address, fresh=fresh)
        if content.instance.project_id != owner.project_id:
            raise NotFound(reason="There is no such server.")
        return content

    def _known(self, ctx: Context, uuid: str, address: str, *, fresh: bool) -> Content:
        kept = self._kept.get(uuid)
        if kept is not None and not fresh and kept.has_address(address):
            return kept
        instance = self._instances.find(ctx, uuid)
        made = Content(
            instance,
            instance.network_info,
            new_seed() if kept is None else kept.random_seed,
            self._settings.api.dhcp_domain,
        )
        if not made.has_address(address) and self._networks is not None:
            made = replace(made, vifs=self._networks.info(ctx, uuid, project_id=instance.project_id))
        if not made.has_address(address):
            raise NotFound(reason="There is no such server.")
        self._kept.put(uuid, made)
        return made

    def _vendor_of(self, ctx: Context, content: Content) -> Vendor:
        uuid = content.instance.uuid
        known = self._vendors.get(uuid)
        if known is None:
            known = self._vendor.about(ctx, content)
            self._vendors.put(uuid, known)
        return known

    # -- the password -----------------------------------------------------------------------------

    def _take_password(self, ctx: Context, content: Content, version: str, body: bytes) -> Document:
        date = documents.dated(version)
        if date is None or date < documents.GRIZZLY:
            raise NotFound(reason="There is no such document.")
        if len(body) > MOST_BYTES:
            raise Invalid(reason="Request is too large.")
        try:
            password = body.decode("ascii")
        except UnicodeDecodeError:
            raise Invalid(reason="A password is sent encrypted, in base64.") from None
        self._instances.set_password(ctx, content.instance.uuid, password)
        return Document(b"")


def _reported(content: Content, steps: list[str]) -> Document:
    """The document at the path, which is not the root. Raises NotFound."""
    if steps[0] == "openstack":
        return _openstack(content, steps[1:])
    date = ec2.dated(steps[0])
    found = None if date is None else ec2.look_up(content, date, steps[1:])
    if found is None:
        raise NotFound(reason="There is no such document.")
    return Document(found, BYTES if steps[1:] == ["user-data"] else TEXT)


def _openstack(content: Content, steps: list[str]) -> Document:
    if not steps:
        return _lines((*documents.VERSIONS, LATEST))
    date = documents.dated(steps[0])
    if date is not None and len(steps) == 1:
        return _lines(documents.listing(content, date))
    found = documents.document(content, date, steps[1]) if date is not None and len(steps) == 2 else None
    if found is None:
        raise NotFound(reason="There is no such document.")
    name = steps[1]
    return Document(found, JSON if name.endswith(".json") else BYTES if name == documents.USER_DATA else TEXT)


def _lines(names: list[str] | tuple[str, ...]) -> Document:
    return Document("\n".join(names).encode())
