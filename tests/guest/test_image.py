"""The image's cache: whole or not there, and what is missing is named. Apt is played by small programs of the test."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from cell_service.errors import Unavailable
from tools.guest import image

DEB = b"no real package"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of programs that is all that the build finds, with a build.sh that makes small files."""
    programs, sources = tmp_path / "programs", tmp_path / "sources"
    programs.mkdir()
    sources.mkdir()
    for name in image.BUILD_FILES:
        (sources / name).write_text("true\n", encoding="utf-8")
    (sources / "packages.txt").write_text("one\n", encoding="utf-8")
    build = 'for file in vmlinuz initrd.gz guest.qcow2; do ls "$1" >"$2/$file"; done; echo 6.1 >"$2/kernel_version"\n'
    (sources / "build.sh").write_text(build, encoding="utf-8")
    for name in image.TOOLS:
        program(programs, name, "exit 0")
    program(programs, "dpkg", "echo amd64")
    program(programs, "apt-cache", "echo '  Depends: linux-image-6.1-cloud-amd64'")
    digest = hashlib.sha256(DEB).hexdigest()
    listed = f"'http://mirror/one_1%3a2_amd64.deb' one_1%3a2_amd64.deb 15 SHA256:{digest}"
    fetch = f"case $* in *--print-uris*) echo \"{listed}\";; *) printf '{DEB.decode()}' >one_1%3a2_amd64.deb;; esac"
    program(programs, "apt-get", fetch)
    monkeypatch.setattr(image, "SOURCES", sources)
    monkeypatch.setattr(image, "SEARCH_PATH", f"{programs}:/usr/bin:/bin")
    return programs


def program(programs: Path, name: str, body: str) -> None:
    (programs / name).write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    (programs / name).chmod(0o755)


def test_a_change_of_any_file_that_the_build_uses_makes_another_build() -> None:
    there = {path.name for path in image.SOURCES.iterdir() if path.is_file() and path.suffix != ".py"}
    assert set(image.BUILD_FILES) == there


def test_built_once_then_kept(machine: Path, tmp_path: Path) -> None:
    first = image.build(tmp_path / "cache")
    made = first.kernel.stat().st_mtime_ns
    assert image.build(tmp_path / "cache") == first
    assert first.kernel.stat().st_mtime_ns == made
    assert first.kernel.read_text(encoding="utf-8") == "one_1%3a2_amd64.deb\n"
    assert first.kernel_version == "6.1"
    assert first.disk.is_file()
    assert first.ramdisk.is_file()


def test_another_source_makes_another_build(machine: Path, tmp_path: Path) -> None:
    first = image.build(tmp_path / "cache")
    (image.SOURCES / "init").write_text("false\n", encoding="utf-8")
    second = image.build(tmp_path / "cache")
    assert first.disk.is_file()
    assert second.disk.parent != first.disk.parent


def test_a_build_that_fails_leaves_nothing_and_says_why(machine: Path, tmp_path: Path) -> None:
    (image.SOURCES / "build.sh").write_text("echo half >$2/vmlinuz; echo no space >&2; exit 1\n", encoding="utf-8")
    with pytest.raises(Unavailable, match="no space"):
        image.build(tmp_path / "cache")
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["lock", "packages"]


def test_missing_tools_are_named_by_their_packages(
    machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image, "TOOLS", image.TOOLS | {"no-such-tool": "toolbox", "nor-this": "toolbox"})
    with pytest.raises(Unavailable, match=r"these Debian packages: toolbox$"):
        image.build(tmp_path / "cache")


def test_without_lists_an_earlier_build_serves(machine: Path, tmp_path: Path) -> None:
    first = image.build(tmp_path / "cache")
    program(machine, "apt-cache", "echo 'No packages found' >&2; exit 100")
    assert image.build(tmp_path / "cache") == first
    with pytest.raises(Unavailable, match="No packages found"):
        image.build(tmp_path / "other")


def test_a_package_that_is_not_what_the_lists_say_is_not_used(machine: Path, tmp_path: Path) -> None:
    real = (machine / "apt-get").read_text(encoding="utf-8")
    (machine / "apt-get").write_text(real.replace(DEB.decode(), "another one"), encoding="utf-8")
    with pytest.raises(Unavailable, match="one_1%3a2_amd64"):
        image.build(tmp_path / "cache")
    assert list((tmp_path / "cache" / "packages").iterdir()) == []


def test_a_directory_that_cannot_be_written_is_said(machine: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="can't be written"):
        image.build(tmp_path / "file" / "cache")
