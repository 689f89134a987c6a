"""Copies of root disks: of guests that are off by qemu-img, of those that run by a block job of their QEMU."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import libvirt

from cell_service.context import Clock
from cell_service.errors import DriverError
from cell_service.model.guest_agent import Quiesce
from compute_host.virt.libvirt import guest_agent
from compute_host.virt.libvirt.agent_verbs import GuestAgentVerbs
from compute_host.virt.libvirt.domain import LaidDisk
from compute_host.virt.libvirt.drive import run
from compute_host.virt.libvirt.guests import ALIVE

FORMAT = "qcow2"
LONGEST_COPY_SECONDS = 6 * 3600.0
LOOK_SECONDS = 0.2


class SnapshotVerbs(GuestAgentVerbs):
    """See `virt.driver.Snapshots` and `virt.driver.LiveSnapshots`."""

    def snapshot(self, uuid: str, target: Path) -> str:
        state = self.power_state(uuid)
        if state in ALIVE:
            raise DriverError(reason=f"The guest is {state.name.lower()}: its disk is copied only while it is off.")
        root = self._root(uuid)
        copy_file(root.path, root.format, target)
        return FORMAT

    def snapshot_running(self, uuid: str, target: Path, *, quiesce: Quiesce = Quiesce.NO) -> str:
        with self._guest(uuid) as found:
            if found.isActive():
                if quiesce is Quiesce.REQUIRED:
                    guest_agent.ping(found)
                quiesced = self._freezing.frozen(uuid, quiesce)
                copy_running(found, self._root(uuid).path, target, self._clock, self._stopped, quiesced)
                return FORMAT
        return self.snapshot(uuid, target)

    def _root(self, uuid: str) -> LaidDisk:
        """The guest's root disk. Raises GuestNotFound, DriverError."""
        for disk in self._storage.record(uuid).laid.disks:
            if disk.role == "root":
                return disk
        raise DriverError(reason="The guest has no root disk on this host.")


def copy_file(source: Path, source_format: str, target: Path) -> None:
    """Copy the disk, with what its backing file has, to a qcow2 file. Raises DriverError, HostOutOfSpace."""
    with _replacing(target) as part:
        run(
            ["qemu-img", "convert", "-f", source_format, "-O", FORMAT, source, part],
            seconds=LONGEST_COPY_SECONDS,
        )


def copy_running(
    found: Any, source: Path, target: Path, clock: Clock, stopped: threading.Event,
    quiesced: AbstractContextManager[None] | None = None,
) -> None:  # fmt: skip
    """Copy the disk of the running domain, with what its backing file has, to a qcow2 file: as it is at the end of the
    copy, at which the guest is `quiesced`. The guest goes on meanwhile. Raises DriverError, libvirtError."""
    with _replacing(target) as part:
        part.touch(0o600)  # libvirt gives files that it makes itself to root
        disk = str(source)
        _end_job(found, disk)  # of an agent that was killed while it copied
        flags = libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB
        found.blockCopy(disk, _destination(part), {}, flags)
        try:
            while not _is_ready(found, disk):
                clock.wait(stopped, LOOK_SECONDS)
                if stopped.is_set():
                    raise DriverError(reason="The driver was stopped.")
            with quiesced or contextlib.nullcontext():
                _end_job(found, disk)
        finally:
            with contextlib.suppress(libvirt.libvirtError):  # it has ended by itself, or the guest has
                _end_job(found, disk)


def _end_job(found: Any, disk: str) -> None:
    """End the disk's block job, if it has one. Raises libvirtError."""
    if found.blockJobInfo(disk, 0):
        found.blockJobAbort(disk, 0)


@contextlib.contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """A file that becomes the target in the end; after an error there is none."""
    part = target.with_name(f"{target.name}.part")
    try:
        part.unlink(missing_ok=True)
        yield part
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _destination(path: Path) -> str:
    disk = Element("disk", type="file", device="disk")
    SubElement(disk, "driver", name="qemu", type=FORMAT)
    SubElement(disk, "source", file=str(path))
    return ElementTree.tostring(disk, encoding="unicode")


def _is_ready(found: Any, disk: str) -> bool:
    """Whether the copy has all that the disk has, and follows it. Raises DriverError when the block job has ended."""
    for each in ElementTree.fromstring(found.XMLDesc(0)).iter("disk"):
        source, mirror = each.find("source"), each.find("mirror")
        if source is not None and source.get("file") == disk:
            if mirror is None:
                raise DriverError(reason="The copy of the guest's disk has failed.")
            return mirror.get("ready") == "yes"
    raise DriverError(reason="The guest has lost its disk.")
