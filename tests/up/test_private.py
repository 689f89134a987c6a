"""What a cloud stores is its owner's alone, also where it was made by a launcher that did not see to that."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.up import private


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """A cloud's directory of a launcher under umask 022."""
    before = os.umask(0o022)
    made = tmp_path / "state"
    (made / "db").mkdir(parents=True)
    (made / "db" / "api.sqlite").touch()
    yield made
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_what_is_there_and_what_comes_is_the_owners_alone(state: Path) -> None:
    private.close(state, private.OWNER_ALONE, ["db"])
    (state / "hosts").mkdir()
    (state / "hosts" / "state.json").touch()
    assert {mode(each) for each in (state, state / "db", state / "hosts")} == {0o700}
    assert {mode(each) for each in (state / "db" / "api.sqlite", state / "hosts" / "state.json")} == {0o600}


def test_a_shared_libvirt_passes_to_files_whose_paths_it_knows(state: Path) -> None:
    private.close(state, private.OWNER_ALONE, ["db"])
    private.close(state, private.OTHERS_PASS, ["db"])
    (state / "hosts").mkdir()
    assert {mode(each) for each in (state, state / "db", state / "hosts")} == {0o711}
    assert mode(state / "db" / "api.sqlite") == 0o600


def test_what_is_not_the_clouds_is_left_alone(state: Path) -> None:
    (state / "notes").mkdir()
    (state / "notes" / "mine").touch(mode=0o644)
    private.close(state, private.OWNER_ALONE, ["db"])
    assert (mode(state / "notes"), mode(state / "notes" / "mine")) == (0o755, 0o644)


def test_links_are_left_alone(state: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.touch(mode=0o644)
    (state / "db" / "link").symlink_to(outside)
    (state / "db" / "dangling").symlink_to(tmp_path / "nothing")
    private.close(state, private.OWNER_ALONE, ["db"])
    assert mode(outside) == 0o644
