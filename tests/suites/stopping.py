"""Stopping actions in the middle: what is done to a server, where it may be stopped, and what must hold afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import requests

from api_cell.edge.auth import NoAuth
from cell_service import wire
from cell_service.context import Context, Deadline
from cell_service.db import actions, instances, operations
from cell_service.errors import DriverError, PeerUnavailable, PolycellError, VolumeNotFound
from cell_service.model.block_device import BlockDevice, of_volume, volumes
from cell_service.model.lifecycle import PowerState, VmState
from cell_service.model.share import ShareMapping, ShareStatus
from cell_service.operations.declaration import Operation
from cell_service.operations.deletes import DELETE
from cell_service.peers.cinder import open_volumes
from cell_service.peers.manila import open_shares
from cell_service.peers.settings import CinderSettings, ManilaSettings
from cell_service.peers.volumes import NewVolume
from tests.suites.one_cell import VERBS, OneCell
from tests.suites.peers import MemoryImages
from tests.suites.steps import KillSwitch
from tools.companions.share.service import make_share
from tools.companions.volume.service import make_volume

HOST = "h1"


class Storage:
    """A block storage and a shared file system service, and what they know of one server."""

    def __init__(self, directory: Path) -> None:
        self.images = MemoryImages()
        self.service = make_volume(directory, NoAuth(), self.images)
        self.service.start(0)
        self.volumes = open_volumes(CinderSettings(auth_type="none", endpoint_override=self.service.url))
        self._headers = {"X-Auth-Token": "admin:admin", "OpenStack-API-Version": "volume 3.44"}
        self._headers_of_shares = {"X-Auth-Token": "admin:admin"}

        self.sharing = make_share(directory, NoAuth(), looks=0)
        self.sharing.start(0)
        self.shares = open_shares(ManilaSettings(auth_type="none", endpoint_override=self.sharing.url))

    def share(self) -> str:
        wanted = {"share": {"share_proto": "NFS", "size": 1}}
        url = f"{self.sharing.url}/v2/shares"
        made: str = requests.post(url, json=wanted, headers=self._headers_of_shares, timeout=10).json()["share"]["id"]
        return made

    def rules(self, share_id: str) -> dict[str, str]:
        """Who is let in to the share, and the state of that."""
        url, query = f"{self.sharing.url}/v2/share-access-rules", {"share_id": share_id}
        found = requests.get(url, params=query, headers=self._headers_of_shares, timeout=10).json()["access_list"]
        return {one["access_to"]: one["state"] for one in found}

    def attachments(self, uuid: str) -> list[dict[str, Any]]:
        """The server's attachments, connected or not."""
        query = {"all_tenants": "1", "instance_id": uuid}
        url = f"{self.service.url}/v3/attachments/detail"
        found: list[dict[str, Any]] = requests.get(url, params=query, headers=self._headers, timeout=10).json()[
            "attachments"
        ]
        return found

    def has_lost(self, volume_id: str) -> bool:
        """Whether there is no such volume any more."""
        try:
            self.volumes.get(
                Context("req-volume", is_admin=True, project_id="p", deadline=Deadline.after(20)), volume_id
            )
        except VolumeNotFound:
            return True
        return False

    def extend(self, volume_id: str, size: int) -> None:
        url = f"{self.service.url}/v3/volumes/{volume_id}/action"
        requests.post(url, json={"os-extend": {"new_size": size}}, headers=self._headers, timeout=10).raise_for_status()

    def snapshot(self, volume_id: str, status: str) -> str:
        """A new snapshot in that status, as while the service waits for a host."""
        ctx = Context("req-snapshot", is_admin=True, project_id="p", deadline=Deadline.after(20))
        snapshot_id: str = self.volumes.take_snapshot(ctx, volume_id, "taken", None, force=True).id
        body = {"os-reset_status": {"status": status}}
        url = f"{self.service.url}/v3/snapshots/{snapshot_id}/action"
        requests.post(url, json=body, headers=self._headers, timeout=10).raise_for_status()
        return snapshot_id

    def close(self) -> None:
        self.service.drain(0)
        self.sharing.drain(0)


@dataclass
class Place:
    """One cell with one host, and a server in it. `wanted` is what the case has put down for itself."""

    cell: OneCell
    storage: Storage
    uuid: str = ""
    request_id: str = ""
    wanted: dict[str, str] = field(default_factory=dict)

    def ctx(self) -> Context:
        return replace(self.cell.ctx(), is_admin=True)

    def volume(self, size: int = 1, **fields: Any) -> str:
        made: str = self.storage.volumes.create(self.ctx(), NewVolume("p", size, **fields)).id
        return made

    def device(self, volume_id: str, name: str = "/dev/vdb", **fields: Any) -> BlockDevice:
        """The volume as a device of the server, reserved."""
        attachment = self.storage.volumes.reserve(self.ctx(), volume_id, self.uuid)
        return BlockDevice(
            str(uuid4()), "volume", "volume", device_name=name, volume_id=volume_id, volume_size=1,
            attachment_id=attachment, **fields,
        )  # fmt: skip

    def mapping(self, share_id: str) -> ShareMapping:
        """The share as the server's, about to be attached."""
        return ShareMapping(str(uuid4()), share_id, "home", ShareStatus.ATTACHING, f"127.0.0.1:/{share_id}", "NFS")

    def share(self) -> ShareMapping | None:
        """The server's only share."""
        return next(iter(self.cell.instance(self.uuid).shares), None)

    def mounts(self) -> dict[str, str]:
        driver: Any = self.cell.hosts[HOST].driver
        found: dict[str, str] = driver.mounts(self.uuid)
        return found

    def work(self, kind: Operation[Any, Any], devices: tuple[BlockDevice, ...] | None = None, **arguments: Any) -> None:
        """An operation that leaves the server's state alone, as the API begins it."""
        ctx, now, cell = self.ctx(), self.cell.clock.now(), self.cell
        self.request_id = ctx.request_id

        def begin(tx: Any) -> None:
            if devices is not None:
                instances.change(tx, self.uuid, now=now, block_devices=devices)
            actions.start(tx, ctx, self.uuid, kind.name, now)
            new = operations.new_operation(
                kind, ctx, self.uuid, HOST, now, kind.read(arguments), deadline=operations.NEVER
            )
            operations.insert(tx, new)

        cell.db.run(begin)

    def act(self, kind: Operation[Any, Any], arguments: dict[str, Any] | None = None, **columns: Any) -> None:
        self.request_id = self.cell.act(self.uuid, kind, arguments=arguments, **columns).request_id

    def run(self) -> None:
        self.cell.hosts[HOST].claim()
        self.cell.settle()

    def devices(self) -> tuple[BlockDevice, ...]:
        return self.cell.instance(self.uuid).block_devices

    def on_guest(self) -> dict[str, int]:
        driver: Any = self.cell.hosts[HOST].driver
        held: dict[str, int] = driver.volumes(self.uuid)
        return held

    def guest(self) -> Any:
        driver: Any = self.cell.hosts[HOST].driver
        return driver._state.get(self.uuid)

    def images(self) -> set[str]:
        return set(self.cell.images.records) - {self.cell.image_id, *self.wanted.values()}

    def has(self, volume_id: str) -> bool:
        return of_volume(self.devices(), volume_id) is not None

    def result(self) -> str | None:
        """Of the action's first event: Success, Error; None when it has none."""
        events = self.cell.events(self.uuid, self.request_id)
        return events[-1][2] if events else None

    def message(self) -> str | None:
        with self.cell.db.connect() as tx:
            return actions.get(tx, self.uuid, self.request_id).message


@dataclass(frozen=True)
class Case:
    """`begin` brings the server to where the action is open and nobody has seen it; `done` says whether it is done."""

    name: str
    begin: Callable[[Place], None]
    done: Callable[[Place], bool]


class Failing(KillSwitch):
    """Once, the `at`-th call of driver or peers fails, before it does anything or (a peer's answer is lost) after."""

    struck = False

    def through(self, name: str, call: Callable[[], Any]) -> Any:
        if self.struck or name in ("call", "cast") or (self.after and name in VERBS):
            return call()
        self.count += 1
        self.calls.append(name)
        if self.count != self.at:
            return call()
        self.struck = True
        if self.after:
            call()
        if name in VERBS:
            raise DriverError(reason="The hypervisor failed.")
        raise PeerUnavailable(service="other", reason="it answered 503")


class Meanwhile(KillSwitch):
    """Once, before or after the `at`-th call, something happens that whoever calls knows nothing of."""

    def __init__(self, at: int, happens: Callable[[], None], *, after: bool = False) -> None:
        super().__init__(at, after=after)
        self._happens = happens

    def through(self, name: str, call: Callable[[], Any]) -> Any:
        self.count += 1
        self.calls.append(name)
        if self.count != self.at:
            return call()
        if not self.after:
            self._happens()
            return call()
        try:
            return call()
        finally:
            self._happens()


Stop = Callable[[Place, int, bool], KillSwitch]
"""Lets the open action of a place be done, stopped before (or after) the call of that number."""


def agent_dies(place: Place, number: int, after: bool) -> KillSwitch:
    switch = KillSwitch(number, after=after)
    place.cell.host(HOST, switch=switch).claim()
    switch.dead = True
    place.cell.host(HOST)
    return switch


def call_fails(place: Place, number: int, after: bool) -> KillSwitch:
    switch = Failing(number, after=after)
    place.cell.host(HOST, switch=switch).claim()
    return switch


def server_is_deleted(place: Place, number: int, after: bool) -> KillSwitch:
    switch = Meanwhile(number, lambda: _delete(place), after=after)
    place.cell.host(HOST, switch=switch).claim()
    if switch.count < number:
        _delete(place)
    return switch


def _delete(place: Place) -> None:
    place.cell.act(place.uuid, DELETE)


def fault_after(
    place: Place, stop: Stop, number: int, check: Callable[[Place], None], *, after: bool
) -> tuple[KillSwitch, str | None]:
    """What the check finds wrong when all is quiet after the stop; None: nothing."""
    switch = stop(place, number, after)
    place.cell.pass_time(150, step=30)
    try:
        check(place)
    except (AssertionError, PolycellError) as error:
        calls = ", ".join(switch.calls[max(0, number - 4) : number])
        return switch, f"{'after' if after else 'before'} call {number} (… {calls}): {error!r}"
    return switch, None


def check_books(place: Place) -> None:
    """Cell, host, block storage, network and image service say the same of the server."""
    cell, uuid = place.cell, place.uuid
    instance, attached = cell.instance(uuid), place.storage.attachments(uuid)
    assert cell.unfinished(uuid) == []
    active = {image.id for image in cell.images.records.values() if image.status == "active"}
    named = {one.description.removeprefix("of image ") for one in place.storage.volumes.snapshots(place.ctx())
             if one.description and one.description.removeprefix("of image ") in place.wanted.values()}  # fmt: skip
    assert named <= active
    assert not [image.id for image in cell.images.records.values() if image.status == "queued"]
    _check_shares(place)
    if instance.deleted_at is not None:
        assert cell.guests_of(uuid) == []
        assert (attached, cell.networks.of(uuid), place.images()) == ([], [], set())
        assert uuid not in cell.placement.allocations
        copied = {one.volume_id for one in place.storage.volumes.snapshots(place.ctx())}
        for device in volumes(instance.block_devices):
            if device.delete_on_termination and device.volume_id not in copied:  # what has snapshots is kept
                assert place.storage.has_lost(device.volume_id or "")
        return
    assert instance.task_state is None
    if instance.vm_state is VmState.ERROR and instance.launched_at is None:
        assert (cell.guests_of(uuid), attached, cell.networks.of(uuid)) == ([], [], [])
        return
    held = volumes(instance.block_devices)
    assert not any(device.detaching for device in held)
    assert {one["id"]: one["status"] for one in attached} == {one.attachment_id: "attached" for one in held}
    assert {one["volume_id"] for one in attached} == {one.volume_id for one in held}
    if instance.vm_state is VmState.ERROR and not cell.guests_of(uuid):
        return
    assert cell.guests_of(uuid) == [HOST]
    assert place.on_guest() == {one.volume_id: one.volume_size for one in held}
    guest = place.guest()
    assert sorted(guest.macs) == sorted(vif.mac for vif in instance.network_info)
    assert {vif.port_id for vif in instance.network_info} == {port.vif.port_id for port in cell.networks.of(uuid)}
    assert guest.power_state is instance.power_state
    assert guest.rescued is (instance.vm_state is VmState.RESCUED)


def _check_shares(place: Place) -> None:
    """The host is let in to what the server has, and its guest has that while it runs."""
    instance = place.cell.instance(place.uuid)
    rules = place.storage.rules(place.wanted["share"]) if "share" in place.wanted else {}
    mapping = place.share()
    if instance.deleted_at is not None or mapping is None:
        assert rules == {}
        return
    assert mapping.status in (ShareStatus.INACTIVE, ShareStatus.ERROR)
    if mapping.usable:
        assert rules == {mapping.access_to: "active"}
    runs = instance.power_state is PowerState.RUNNING and mapping.usable
    assert place.mounts() == ({mapping.tag: mapping.export_location} if runs else {})


def check_told(place: Place, case: Case) -> None:
    """The action's record says whether it was done; what was not done is undone."""
    done, result = case.done(place), place.result()
    assert result == ("Success" if done else "Error"), (case.name, result, done)
    assert (place.message() is None) is done


def plain(value: Any) -> Any:
    return wire.to_plain(value)
