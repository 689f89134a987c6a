"""The work on what volumes and snapshots have in them: made, copied, fetched and uploaded, also after the answer.

A record under work has a `job`: its kind, what it is made of, and in whose name. A process that ends in the middle
leaves it, and the next one does the work from its beginning, or gives the record the status error.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import Connection

from cell_service.db.sql.engine import Database
from cell_service.errors import HostOutOfSpace, ImageUnacceptable, Invalid, PolycellError
from cell_service.logs import about
from cell_service.peers.image import NewImage
from tools.companions.volume import messages, store
from tools.companions.volume.attachments import follow, servers_of
from tools.companions.volume.exports import Exporter
from tools.companions.volume.files import Files, copy
from tools.companions.volume.images import VolumeImages
from tools.companions.volume.messages import Action, Detail
from tools.companions.volume.store import Record

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
        self, db: Database, files: Files, images: VolumeImages, exporter: Exporter, compute: Compute | None = None,
        step: Step = lambda name: None,
    ) -> None:  # fmt: skip
        self._db, self._files, self._images, self._exporter = db, files, images, exporter
        self._compute, self._step = compute, step
        self._slots = threading.BoundedSemaphore(AT_ONCE)
        self._closing = threading.Event()
        self._threads: set[threading.Thread] = set()
        self._work: dict[str, Callable[[Record, Record], Record]] = {
            "blank": self._blank, "copy": self._copy, "image": self._image, "reimage": self._image,
            "upload": self._upload,
        }  # fmt: skip

    def begin(self, noun: str, record_id: str, *, held: str | None = None) -> threading.Thread:
        """Begin with the record's job. `held`: the volume that the exporter holds for it, and which is released."""
        thread = threading.Thread(
            target=self._run, args=(noun, record_id, held), name=f"{noun} {record_id}", daemon=True
        )
        self._threads.add(thread)
        thread.start()
        return thread

    def resume(self) -> None:
        """Remove what an earlier process left half done, and go on with its work."""
        with self._db.connect() as tx:
            found = [(noun, one) for noun in ("volume", "snapshot") for one in store.search(tx, noun)]
        for name in self._files.sweep({one["id"] for _, one in found}):
            log.info("file without record removed", extra=about(None, file=name))
        for noun, one in reversed(found):
            job = one.get("job")
            if job is None and one["status"] in ("creating", "downloading"):
                self._failed(noun, one, {"kind": "copy"}, "The service ended before it was made.")
            elif job is not None and job.get("held"):
                self._failed(noun, one, job, "The service ended while it was taken, and guests have written since.")
            elif job is not None:
                self.begin(noun, one["id"])

    def close(self) -> None:
        """Stop between two pieces of a copy; what can't be stopped ends with the process."""
        self._closing.set()
        for thread in tuple(self._threads):
            thread.join(CLOSING_SECONDS)

    def _run(self, noun: str, record_id: str, held: str | None) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(self._threads.discard, threading.current_thread())
            if held is None:
                stack.enter_context(self._slots)
            else:
                stack.callback(self._exporter.release, held)
            with self._db.connect() as tx:
                record = store.find(tx, noun, record_id)
            job = (record or {}).get("job")
            if record is None or job is None or self._closing.is_set():
                return
            try:
                self._check("begun")
                values = self._work[job["kind"]](record, job)
            except _Stopped:
                log.info("left for the next start", extra=about(None, **{noun: record_id}, kind=job["kind"]))
            except (PolycellError, OSError) as error:
                self._failed(noun, record, job, _words(error), error)
            except Exception as error:  # the edge of a thread
                log.exception("work failed", extra=about(None, **{noun: record_id}, kind=job["kind"]))
                self._failed(noun, record, job, "", error)
            else:
                self._ended(noun, record, job, values)

    def _check(self, step: str = "copying") -> None:
        self._step(step)
        if self._closing.is_set():
            raise _Stopped

    # -- the kinds of work: each answers the values that the record has then -------------------------

    def _blank(self, record: Record, job: Record) -> Record:
        with self._files.draft() as draft:
            (draft / "content").touch()
            self._files.place(record["id"], draft / "content", record["size"])
        self._step("placed")
        return {"status": "available"}

    def _copy(self, record: Record, job: Record) -> Record:
        source = self._files.path(job["source"])
        with self._held(job), self._files.draft() as draft:
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
            self._files.place(record["id"], content, record["size"])
        self._step("placed")
        return {"status": "available", "image_metadata": said, "bootable": True}

    def _upload(self, record: Record, job: Record) -> Record:
        with self._files.draft() as draft:
            image = NewImage(**job["image"])
            self._images.upload(job["user"], image, self._files.path(record["id"]), draft, self._check)
        self._step("placed")
        return {"status": "available"}

    @contextlib.contextmanager
    def _held(self, job: Record) -> Iterator[None]:
        """Nothing is written to the source, unless it is held for this job already."""
        if "held" in job:
            yield
            return
        self._exporter.hold(job["source"])
        try:
            yield
        finally:
            self._exporter.release(job["source"])

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
        if not is_upload and job["kind"] != "reimage":
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


def demand_no_copies(tx: Connection, source_id: str) -> None:
    """Raises Invalid while something is made of the volume or snapshot."""
    for noun in ("volume", "snapshot"):
        for one in store.search(tx, noun):
            if (one.get("job") or {}).get("source") == source_id:
                raise Invalid(reason=f"Invalid volume: {source_id} is being copied to {noun} {one['id']}.")


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
