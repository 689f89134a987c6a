"""The cache of images on a host: what breaks off, what is removed and when, and a disk that is full."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cell_service.context import SYSTEM_CLOCK, Context, internal
from cell_service.errors import HostOutOfSpace, ImageUnacceptable, PeerUnavailable
from cell_service.model.instance import Flavor
from cell_service.model.lifecycle import State, VmState
from cell_service.peers.image import Image, NewImage
from compute_host.config import HostSettings
from compute_host.image_cache import PART_SECONDS, ImageCache
from compute_host.image_settings import ImageCacheOptions
from compute_host.precaching import Precaching
from tests.real.databases import wait_until
from tests.suites.one_cell import OneCell
from tests.suites.peers import MemoryImages

FLAVOR = Flavor(flavorid="1", name="small", vcpus=1, memory_mib=64, root_gib=1)
MIB = 2**20


class BreakingImages(MemoryImages):
    """Downloads break off in the middle with `failure`, if there is one."""

    failure: Exception | None = None

    def download(self, ctx: Context, image: Image, target: Path) -> None:
        if self.failure is not None:
            target.write_bytes(self.contents[image.id][: image.size_bytes // 2])
            raise self.failure
        super().download(ctx, image, target)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("*"))


def aged(path: Path, seconds: float) -> Path:
    then = time.time() - seconds
    os.utime(path, (then, then))
    return path


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 MiB, in which 16 are free."""
    place = tmp_path / "full"
    place.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=32M", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(mounting, check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    (place / "other").write_bytes(bytes(16 * MIB))
    yield place
    subprocess.run(["umount", "-l", place], check=True)


# -- downloads that break off ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (PeerUnavailable(service="image", reason="gone"), PeerUnavailable),
        (OSError(28, "No space left on device"), HostOutOfSpace),
        (ImageUnacceptable(image_id="i", reason="its hash is another one"), ImageUnacceptable),
    ],
)
def test_a_download_that_breaks_off_leaves_nothing_and_is_begun_again(
    tmp_path: Path, failure: Exception, expected: type[Exception]
) -> None:
    images = BreakingImages()
    image_id, cache = images.add(b"content" * 100), ImageCache(images, tmp_path / "cache")
    images.failure = failure
    with pytest.raises(expected), cache.image(internal(), image_id, FLAVOR):
        pass
    assert names(tmp_path / "cache") == []
    images.failure = None
    with cache.image(internal(), image_id, FLAVOR) as (_record, path):
        assert path.read_bytes() == b"content" * 100


def test_the_rest_of_a_killed_download_is_never_used_and_removed_in_the_end(tmp_path: Path) -> None:
    images, directory = MemoryImages(), tmp_path / "cache"
    image_id, cache = images.add(b"content"), ImageCache(images, directory)
    with cache.image(internal(), image_id, FLAVOR) as (_record, path):
        key = path.name
    path.unlink()
    for rest in (f"{key}.1f.part", f"{key}.1f.part.new", f"{key}.raw.part"):
        (directory / rest).write_bytes(b"CONTENT")
    with cache.image(internal(), image_id, FLAVOR) as (_record, path):
        assert path.read_bytes() == b"content"
    cache.tidy()
    assert len(names(directory)) == 4, "another process may be writing them"
    for left in directory.glob("*.part*"):
        aged(left, PART_SECONDS + 60)
    cache.tidy()
    assert names(directory) == [key]


def test_a_file_that_is_being_written_is_not_removed(tmp_path: Path) -> None:
    images = MemoryImages()
    cache = ImageCache(images, tmp_path / "cache", ImageCacheOptions())

    def make(part: Path) -> str:
        part.write_bytes(b"disk")
        aged(part, 10 * PART_SECONDS)
        (aside := part.with_name(f"{part.name}.new")).write_bytes(b"disk")
        aged(aside, 10 * PART_SECONDS)
        cache.tidy()
        assert len(names(tmp_path / "cache")) == 2
        aside.unlink()
        return "raw"

    cache.publish(internal(), NewImage("image-id", "copy", "p", "raw"), make)
    assert images.contents["image-id"] == b"disk"
    assert names(tmp_path / "cache") == []


# -- ageing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "age", "stays"),
    [
        (ImageCacheOptions(), 86400 - 600, True),
        (ImageCacheOptions(), 86400 + 600, False),
        (ImageCacheOptions(remove_unused_original_minimum_age_seconds=60), 120, False),
        (ImageCacheOptions(remove_unused_base_images=False), 10 * 86400, True),
    ],
)
def test_unused_images_go_when_the_options_say_so(
    tmp_path: Path, options: ImageCacheOptions, age: float, stays: bool
) -> None:
    images = MemoryImages()
    cache, image_id = ImageCache(images, tmp_path / "cache", options), images.add(b"content")
    with cache.image(internal(), image_id, FLAVOR) as (_record, path):
        converted = path.with_name(f"{path.name}.raw")
        converted.write_bytes(b"converted")
        for each in (path, converted):
            aged(each, age)
        cache.tidy()
        assert path.exists(), "it is in use"
        assert converted.exists()
    cache.tidy()
    assert (path.exists(), converted.exists()) == (stays, stays)


def test_a_host_tidies_its_cache_from_time_to_time(tmp_path: Path) -> None:
    cell = OneCell(tmp_path)
    host = cell.host("h1")
    uuid = cell.boot("h1")
    host.claim()
    assert cell.instance(uuid).state == State(VmState.ACTIVE)
    (cached,) = (tmp_path / "images").iterdir()
    cell.pass_time(2400, step=600)
    assert cached.exists()
    aged(cached, 2 * 86400)
    cell.pass_time(4800, step=600)
    assert not cached.exists()


@pytest.mark.parametrize(("interval", "seconds"), [(2400, 2400.0), (0, 60.0), (-1, None)])
def test_the_interval_is_novas(interval: int, seconds: float | None) -> None:
    assert ImageCacheOptions(manager_interval=interval).manager_seconds == seconds


# -- a full disk -------------------------------------------------------------------------------------


def test_an_image_that_does_not_fit_is_not_fetched(full: Path) -> None:
    images = MemoryImages()
    cache, image_id = ImageCache(images, full / "cache"), images.add(bytes(24 * MIB))
    with pytest.raises(HostOutOfSpace, match="MiB free"), cache.image(internal(), image_id, FLAVOR):
        pass
    assert images.downloads == []
    small = images.add(bytes(4 * MIB))
    cache.fetch(internal(), small)


class GreedyImages(MemoryImages):
    """Another program takes the space while an image is downloaded."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.taking = directory / "greedy"

    def download(self, ctx: Context, image: Image, target: Path) -> None:
        self.taking.write_bytes(bytes(8 * MIB))
        super().download(ctx, image, target)


def test_a_disk_that_is_full_in_the_middle_of_a_download_leaves_nothing(full: Path) -> None:
    images = GreedyImages(full)
    cache, image_id = ImageCache(images, full / "cache"), images.add(bytes(10 * MIB))
    with pytest.raises(HostOutOfSpace, match="No space left"), cache.image(internal(), image_id, FLAVOR):
        pass
    assert names(full / "cache") == []


def test_a_disk_that_is_full_in_the_middle_of_a_snapshot_leaves_nothing(full: Path) -> None:
    images = MemoryImages()
    cache = ImageCache(images, full / "cache")

    def make(part: Path) -> str:
        part.write_bytes(bytes(24 * MIB))
        return "raw"

    with pytest.raises(HostOutOfSpace, match="No space left"):
        cache.publish(internal(), NewImage("image-id", "copy", "p", "raw"), make)
    assert (names(full / "cache"), images.uploads) == ([], [])


def test_a_host_without_space_for_an_image_stays_in_service(tmp_path: Path) -> None:
    cell = OneCell(tmp_path)
    cell.images = images = BreakingImages()
    cell.image_id = images.add()
    host, other = cell.host("h1"), cell.host("h2")
    images.failure = OSError(28, "No space left on device")
    uuid = cell.boot("h1")
    host.claim()
    assert cell.instance(uuid).state == State(VmState.ERROR)
    fault = cell.instance(uuid).fault
    assert fault is not None
    assert "No space left" in (fault.details or "")
    assert (cell.guests_of(uuid), names(tmp_path / "images")) == ([], [])
    images.failure = None
    for each in (host, other):
        uuid = cell.boot(each.name)
        each.claim()
        assert cell.instance(uuid).state == State(VmState.ACTIVE)


# -- images fetched before ---------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 3])
def test_so_many_images_are_fetched_at_a_time_before_guests_need_them(tmp_path: Path, concurrency: int) -> None:
    images = MemoryImages()
    wanted = tuple(images.add(f"content {number}".encode()) for number in range(5))
    images.delivering.clear()
    cache = ImageCache(images, tmp_path / "cache")
    before = threading.active_count()
    Precaching(cache, SYSTEM_CLOCK, "h1", concurrency).want(wanted)
    wait_until(lambda: len(images.downloads) == concurrency, "no image is fetched")
    assert threading.active_count() - before <= concurrency
    images.delivering.set()
    wait_until(lambda: len(cached(tmp_path / "cache")) == 5, "not all images are fetched")
    assert sorted(images.downloads) == sorted(wanted)


def cached(directory: Path) -> list[Path]:
    return [path for path in directory.glob("*") if "." not in path.name]


def test_a_host_has_novas_defaults() -> None:
    options = HostSettings(host="h1", state=Path(), image_cache=Path()).cached_images
    assert (options.manager_interval, options.precache_concurrency) == (2400, 1)
    assert (options.remove_unused_base_images, options.remove_unused_original_minimum_age_seconds) == (True, 86400)
