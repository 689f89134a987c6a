"""The guest image: built once from Debian packages, then kept. `python -m tools.guest.image --cache DIR`."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cell_service.errors import Unavailable

SOURCES = Path(__file__).resolve().parent
BUILD_FILES = (
    "build.sh", "init", "lease", "power", "chpasswd", "fsfreeze-hook",
    "json.awk", "network.awk", "prefix.awk", "files.awk", "packages.txt",
)  # fmt: skip
KERNEL = "linux-image-cloud-amd64"
TOOLS = {
    "apt-get": "apt",
    "apt-cache": "apt",
    "dpkg-deb": "dpkg",
    "cpio": "cpio",
    "depmod": "kmod",
    "modprobe": "kmod",
    "sfdisk": "fdisk",
    "mkfs.vfat": "dosfstools",
    "mcopy": "mtools",
    "mmd": "mtools",
    "syslinux": "syslinux",
    "qemu-img": "qemu-utils",
}
"""The programs that the build runs, and the Debian package of each."""
BUILD_SECONDS, DOWNLOAD_SECONDS = 300, 600
SEARCH_PATH = os.pathsep.join(("/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"))


@dataclass(frozen=True, slots=True)
class GuestImage:
    """A whole build: a kernel and a ramdisk that is the system, and both on a disk that starts by BIOS and UEFI."""

    kernel: Path
    ramdisk: Path
    disk: Path
    kernel_version: str


@dataclass(frozen=True, slots=True)
class Deb:
    """A package as apt would fetch it now."""

    file: str
    checksum: str


def build(cache: Path) -> GuestImage:
    """The image in `cache`, built when these sources and packages have none there yet.

    A build is named after them both, so another release of either makes another one. When the packages can't be had now
    (no lists, no network), the newest build of these same sources serves.
    Raises Unavailable, which says what is missing.
    """
    with _alone(cache):
        sources = _sources_hash()
        try:
            debs = _debs()
            made = cache / f"guest-{sources}-{_hash(f'{deb.file} {deb.checksum}' for deb in debs)}"
            if not made.is_dir():
                _make(cache, made, debs)
        except Unavailable:
            kept = sorted(cache.glob(f"guest-{sources}-*"), key=lambda path: path.stat().st_mtime)
            if not kept:
                raise
            made = kept[-1]
    return _image(made)


def _image(made: Path) -> GuestImage:
    version = (made / "kernel_version").read_text(encoding="utf-8").strip()
    return GuestImage(made / "vmlinuz", made / "initrd.gz", made / "guest.qcow2", version)


@contextlib.contextmanager
def _alone(cache: Path) -> Iterator[None]:
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = (cache / "lock").open("w")
    except OSError as error:
        raise Unavailable(reason=f"the guest image's cache {cache} can't be written: {error.strerror}") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _sources_hash() -> str:
    return _hash(hashlib.sha256((SOURCES / name).read_bytes()).hexdigest() for name in BUILD_FILES)


def _hash(words: Iterator[str]) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:12]


def _debs() -> list[Deb]:
    missing = sorted({package for tool, package in TOOLS.items() if not shutil.which(tool, path=SEARCH_PATH)})
    if missing:
        raise Unavailable(reason=f"the guest image needs these Debian packages: {' '.join(missing)}")
    if _run(["dpkg", "--print-architecture"]).strip() != "amd64":
        raise Unavailable(reason="the guest image is built on amd64 only")
    try:
        depends = _run(["apt-cache", "depends", KERNEL])
    except Unavailable as error:
        raise Unavailable(reason=f"{error} (apt-get update would fetch the package lists)") from error
    kernels = [line.split()[-1] for line in depends.splitlines() if "Depends: linux-image-" in line]
    if not kernels:
        raise Unavailable(reason=f"apt offers no {KERNEL}, which the guest image needs")
    names = [*(SOURCES / "packages.txt").read_text(encoding="utf-8").split(), kernels[0]]
    found = []
    for line in _run(["apt-get", "download", "--print-uris", *names]).splitlines():
        _uri, file, _size, checksum = line.split()
        found.append(Deb(file, checksum))
    return sorted(found, key=lambda deb: deb.file)


def _make(cache: Path, made: Path, debs: list[Deb]) -> None:
    """Make the build at `made`: afterwards it is there and whole, or it is not there."""
    packages = _downloaded(cache / "packages", debs)
    with tempfile.TemporaryDirectory(prefix=".building-", dir=cache) as scratch:
        chosen, out = Path(scratch, "debs"), Path(scratch, "out")
        chosen.mkdir()
        out.mkdir()
        for deb in debs:
            (chosen / deb.file).symlink_to(packages / deb.file)
        _run(["sh", str(SOURCES / "build.sh"), str(chosen), str(out)], seconds=BUILD_SECONDS)
        out.chmod(0o755)
        out.rename(made)


def _downloaded(directory: Path, debs: list[Deb]) -> Path:
    directory.mkdir(exist_ok=True)
    lacking = [deb for deb in debs if not _is_whole(directory / deb.file, deb)]
    if not lacking:
        return directory
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=directory) as scratch:
        exact = [_pinned(deb) for deb in lacking]
        _run(["apt-get", "-q", "download", *exact], cwd=scratch, seconds=DOWNLOAD_SECONDS)
        for deb in lacking:
            if not _is_whole(Path(scratch, deb.file), deb):
                raise Unavailable(reason=f"apt did not fetch {deb.file} as its lists describe it")
            Path(scratch, deb.file).rename(directory / deb.file)
    return directory


def _pinned(deb: Deb) -> str:
    name, version, _architecture = deb.file.split("_")
    return f"{name}={version.replace('%3a', ':')}"


def _is_whole(path: Path, deb: Deb) -> bool:
    kind, _, digest = deb.checksum.partition(":")
    return path.is_file() and hashlib.new(kind.lower(), path.read_bytes()).hexdigest() == digest


def _run(command: list[str], cwd: str | None = None, seconds: float = 60) -> str:
    environment = {**os.environ, "PATH": SEARCH_PATH, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, errors="replace", timeout=seconds,
            umask=0o022,  # a guest's files have the usual modes, whatever the cloud's own have
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(reason=f"the guest image can't be built: {error}") from error
    if done.returncode:
        said = " ".join(done.stderr.split()[-60:]) or f"exit {done.returncode}"
        raise Unavailable(reason=f"the guest image can't be built: {Path(command[0]).name}: {said}")
    return done.stdout


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.guest.image", description="Build the guest image.")
    parser.add_argument("--cache", type=Path, required=True, help="the directory that keeps packages and builds")
    try:
        image = build(parser.parse_args(arguments).cache.resolve())
    except Unavailable as error:
        print(error, file=sys.stderr)
        return 1
    for path in (image.kernel, image.ramdisk, image.disk):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
