"""The work on what volumes and snapshots have in them: made, copied, fetched and uploaded, also after the answer.

A record under work has a `job`: its kind, what it is made of, and in whose name. A process that ends in the middle
leaves it, and the next one does the work from its beginning, or gives the record the status error.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from cell_service.db.sql.engine import Database
from cell_service.errors import HostOutOfSpace, ImageUnacceptable, Invalid, PolycellError
from cell_service.logs import about
from cell_service.peers.image import NewImage
from compute_host.virt import luks
from tools.companions.volume import luks_files, messages, store
from tools.companions.volume.attachments import follow, servers_of
from tools.companions.volume.exports import Exporter
from tools.companions.volume.files import Files, copy
from tools.companions.volume.images import VolumeImages
from tools.companions.volume.messages import Action, Detail
from tools.companions.volume.store import GIB, Record
from tools.companions.volume.volume_keys import VolumeKeys

log = logging.getLogger(__name__)

AT_ONCE = 2
"""Copies at a time. Snapshots of volumes that guests use, which wait meanwhile, don't wait for others."""
CLOSING_SECONDS = 2.0
REIMAGED = "volume-reimaged"
Step = Callable[[str], None]
"""Called with the name of each step that is done: begun, fetched, copying (again and again), written, placed."""
Compute = Callable[[str, str, str], None]
"""Called with the event's name and the ids of server and volume, when a server's volume has changed."""
_ACTIONS = {"image": Action.FROM_IMAGE, "reimage": Action.FROM_IMAGE, "upload": Action.TO_IMAGE}


class _Stopped(Exception):
    """The companion ends; the work is for its next process."""


class Contents:
    """Each job runs on a thread of its own. `compute`: notified of servers' volumes that have another image."""

    def __init__(
        self, db: Database, files: Files, images: VolumeImages, exporter: Exporter, keys: VolumeKeys,
        compute: Compute | None = None, step: Step = lambda name: None,
    ) -> None:  # fmt: skip
        self._db, self._files, self._images, self._exporter = db, files, images, exporter
        self._keys, self._compute, self._step = keys, compute, step
        self._slots = threading.BoundedSemaphore(AT_ONCE)
        self._closing, self._lock = threading.Event(), threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._sources: Counter[str] = Counter()
        """How many copies are made of each volume and snapshot."""
        self._work: dict[str, Callable[[Record, Record], Record]] = {
            "blank": self._blank, "copy": self._copy, "image": self._image, "reimage": self._image,
            "upload": self._upload,
        }  # fmt: skip

    def begin(self, noun: str, record_id: str, *, source: str | None = None, held: bool = False) -> threading.Thread:
        """Begin with the record's job. `source`: what it copies; `held`: the exporter holds that for it, and it need
        not wait for other jobs."""
        thread = threading.Thread(
            target=self._run, args=(noun, record_id, source, held), name=f"{noun} {record_id}", daemon=True
        )
        if source is not None:
            with self._lock:
                self._sources[source] += 1
        self._threads.add(thread)
        thread.start()
        return thread

    def demand_no_copies(self, source_id: str) -> None:
        """Raises Invalid while something is made of the volume or snapshot."""
        with self._lock:
            if self._sources[source_id]:
                raise Invalid(reason=f"Invalid volume: {source_id} is being copied.")

    def resume(self) -> None:
        """Remove what an earlier process left half done, and go on with its work, before any host connects to a volume
        that is to be copied as it was."""
        with self._db.connect() as tx:
            found = [(noun, one) for noun in ("volume", "snapshot") for one in store.search(tx, noun)]
        for name in self._files.sweep({one["id"] for _, one in found}):
            log.info("file without record removed", extra=about(None, file=name))
        for noun, one in reversed(found):
            job = one.get("job")
            if job is None and one["status"] in ("creating", "downloading"):
                self._failed(noun, one, {"kind": "unknown"}, "The service ended before it was made.")
            elif job is not None and job.get("held"):
                self._failed(noun, one, job, "The service ended while it was taken, and guests have written since.")
            elif job is not None:
                if noun == "snapshot":
                    self._exporter.hold(job["source"])
                self.begin(noun, one["id"], source=job.get("source"), held=noun == "snapshot")

    def close(self) -> None:
        """Stop between two pieces of a copy; what can't be stopped ends with the process."""
        self._closing.set()
        until = time.monotonic() + CLOSING_SECONDS
        for thread in tuple(self._threads):
            thread.join(max(0.0, until - time.monotonic()))

    def _run(self, noun: str, record_id: str, source: str | None, held: bool) -> None:
        try:
            with contextlib.nullcontext() if held else self._slots:
                with self._copying(source, held):
                    end = self._worked(noun, record_id)
                end()  # the record says that it is made when its source is free again
        finally:
            self._threads.discard(threading.current_thread())

    @contextlib.contextmanager
    def _copying(self, source: str | None, held: bool) -> Iterator[None]:
        """Nothing is written to the source, which may be deleted afterwards."""
        if source is None:
            yield
            return
        try:
            if not held:
                self._exporter.hold(source)
            try:
                yield
            finally:
                self._exporter.release(source)
        finally:
            with self._lock:
                self._sources[source] -= 1

    def _worked(self, noun: str, record_id: str) -> Callable[[], None]:
        """Do the record's job. Returns how it is recorded."""
        with self._db.connect() as tx:
            record = store.find(tx, noun, record_id)
        job = (record or {}).get("job")
        if record is None or job is None:
            return _nothing
        try:
            self._check("begun")
            values = self._work[job["kind"]](record, job)
        except _Stopped:
            log.info("left for the next start", extra=about(None, **{noun: record_id}, kind=job["kind"]))
            return _nothing
        except (PolycellError, OSError) as error:
            return partial(self._failed, noun, record, job, _words(error), error)
        except Exception as error:  # the edge of a thread
            log.exception("work failed", extra=about(None, **{noun: record_id}, kind=job["kind"]))
            return partial(self._failed, noun, record, job, "", error)
        return partial(self._ended, noun, record, job, values)

    def _check(self, step: str = "copying") -> None:
        self._step(step)
        if self._closing.is_set():
            raise _Stopped

    # -- the kinds of work: each answers the values that the record has then -------------------------

    def _blank(self, record: Record, job: Record) -> Record:
        with self._files.draft() as draft:
            (draft / "content").touch()
            self._files.place(record["id"], self._encrypted(record, draft / "content"), record["size"])
        self._step("placed")
        return {"status": "available"}

    def _copy(self, record: Record, job: Record) -> Record:
        source = self._files.path(job["source"])
        with self._files.draft() as draft:
            if not source.exists():
                raise Invalid(reason="What it is to be made of has no content.")
            copy(source, draft / "content", self._check)
            self._check("written")
            self._files.place(record["id"], draft / "content", record["size"])
        self._step("placed")
        return {"status": "available"}

    def _image(self, record: Record, job: Record) -> Record:
        with self._files.draft() as draft:
            content, said = self._images.fetch(job["user"], job["image"], record["size"], draft, self._check)
            self._check("written")
            self._files.place(record["id"], self._encrypted(record, content), record["size"])
        self._step("placed")
        return {"status": "available", "image_metadata": said, "bootable": True}

    def _encrypted(self, record: Record, content: Path) -> Path:
        """The content as it is on the volume. Where no host reaches volumes nothing is on one that is encrypted."""
        if not record.get("encryption"):
            return content
        made = content.with_name("encrypted")
        if not self._images.checks:
            made.touch()
            return made
        if content.stat().st_size + luks.MOST_HEADER_BYTES > record["size"] * GIB:
            words = f"with the header of its encryption it is larger than the volume of {record['size']} GiB"
            raise ImageUnacceptable(image_id=record["id"], reason=words)
        key, encryption = self._keys.get(record["encryption_key_id"]), luks.encryption_of(record["encryption"])
        if content.stat().st_size == 0:
            luks_files.write_blank(made, encryption, key)
        else:
            luks_files.encrypt(content, made, encryption, key)
        return made

    def _upload(self, record: Record, job: Record) -> Record:
        with self._files.draft() as draft:
            image = NewImage(**job["image"])
            self._images.upload(job["user"], image, self._files.path(record["id"]), draft, self._check)
        self._step("placed")
        return {"status": "available"}

    # -- how it ended ----------------------------------------------------------------------------------

    def _ended(self, noun: str, record: Record, job: Record, values: Record) -> None:
        def work(tx: Connection) -> bool:
            now = store.find(tx, noun, record["id"])
            if now is None:
                return False
            store.change(tx, now, {**values, "job": None})
            if noun == "volume":
                follow(tx, record["id"])
            return True

        if not self._db.run(work):
            self._files.remove(record["id"])  # it was deleted meanwhile
        self._notify(record, job)

    def _failed(self, noun: str, record: Record, job: Record, reason: str, error: Exception | None = None) -> None:
        log.warning("not made", extra=about(None, **{noun: record["id"]}, kind=job["kind"], reason=reason))
        is_upload = job["kind"] == "upload"
        if job["kind"] in ("blank", "copy", "image"):
            self._files.remove(record["id"])

        def work(tx: Connection) -> None:
            now = store.find(tx, noun, record["id"])
            if now is None:
                return
            action = _ACTIONS.get(job["kind"], Action.SNAPSHOT if noun == "snapshot" else Action.CREATE)
            messages.add(tx, now, noun, action, _detail(job, error), reason)
            now = store.change(tx, now, {"status": "available" if is_upload else "error", "job": None})
            if is_upload:
                follow(tx, record["id"])

        self._db.run(work)
        if is_upload:
            self._images.forget(job["user"], NewImage(**job["image"]))
        self._notify(record, job)

    def _notify(self, record: Record, job: Record) -> None:
        if job["kind"] != "reimage" or self._compute is None:
            return
        with self._db.connect() as tx:
            servers = servers_of(tx, record["id"])
        for server_id in servers:
            self._compute(REIMAGED, server_id, record["id"])


def _nothing() -> None:
    """Leave the record as it is."""


def _detail(job: Record, error: Exception | None) -> Detail:
    if job["kind"] == "upload":
        return Detail.UPLOAD
    of_image = job["kind"] in ("image", "reimage")
    full = isinstance(error, HostOutOfSpace) or (isinstance(error, OSError) and error.errno == errno.ENOSPC)
    if of_image and (full or (isinstance(error, ImageUnacceptable) and "larger" in str(error))):
        return Detail.IMAGE_SPACE
    return Detail.NO_BACKEND if full else Detail.UNKNOWN


def _words(error: Any) -> str:
    """The words of the error, without the names of our files."""
    return str(error.strerror or error) if isinstance(error, OSError) else str(error)
