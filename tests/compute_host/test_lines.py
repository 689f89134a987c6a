"""What a host was told of its cell, and when that counts."""

from __future__ import annotations

from pathlib import Path

from cell_service.rpc.memory import Bus, MemoryTransport
from cell_service.rpc.transports import open_transport
from compute_host.host_queue import FILE, HostQueues

OLD, NEW = "memory://lines-old", "memory://lines-new"


def lines(configured: str) -> HostQueues:
    return HostQueues(configured, MemoryTransport(Bus()), open_transport)


def test_what_was_told_wins_over_the_url_that_it_replaced(tmp_path: Path) -> None:
    assert lines(OLD).url_of(tmp_path) == OLD
    lines(OLD).join(tmp_path, NEW, "new")
    assert lines(OLD).url_of(tmp_path) == NEW
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    assert OLD not in (tmp_path / FILE).read_text(encoding="utf-8")


def test_another_configured_url_has_the_last_word(tmp_path: Path) -> None:
    lines(OLD).join(tmp_path, NEW, "new")
    assert lines("memory://third").url_of(tmp_path) == "memory://third"
    assert lines(NEW).url_of(tmp_path) == NEW


def test_coming_home_needs_no_file(tmp_path: Path) -> None:
    lines(OLD).join(tmp_path, NEW, "new")
    lines(OLD).join(tmp_path, OLD, "old")
    assert lines(OLD).url_of(tmp_path) == OLD
    assert not (tmp_path / FILE).exists()


def test_a_broken_file_is_no_cell(tmp_path: Path) -> None:
    for content in ("", "[]", "{", '{"transport_url": 1}'):
        (tmp_path / FILE).write_text(content, encoding="utf-8")
        assert lines(OLD).url_of(tmp_path) == OLD


def test_one_connection_for_each_queue(tmp_path: Path) -> None:
    made = lines(OLD)
    assert made.to(NEW) is made.to(NEW)
    assert made.to(OLD) is not made.to(NEW)
    made.close()
