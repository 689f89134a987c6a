"""docs/demo/first-hour.md is what happens."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients.recording import Terminal, conversation, free_port_base, is_like, lines_of

pytestmark = [pytest.mark.clients, pytest.mark.timeout(600)]


def test_the_first_hour(tmp_path: Path) -> None:
    base = free_port_base()
    lines = [
        (typed.replace("polycell up ", f"polycell up --port-base {base} "), output)
        for typed, output in lines_of("first-hour.md", base)
    ]
    terminal = Terminal(tmp_path)
    try:
        terminal.play(lines, {}, is_look=lambda _typed: False)
    finally:
        terminal.type("polycell down --delete")
    assert not (tmp_path / ".polycell").exists()


def test_another_output_is_noticed() -> None:
    assert is_like("READY in 3 s\nb\n", "READY in … s\nb\n")
    assert not is_like("READY in 3 s\nc\n", "READY in … s\nb\n")
    assert not is_like("READY in 3 s\nb\nmore\n", "READY in … s\nb\n")


def test_the_width_of_a_column_does_not_matter() -> None:
    assert is_like("+-----+\n| a   |\n", "+---+\n| a |\n")
    assert not is_like("+-----+\n| a b |\n", "+---+\n| ab |\n")


def test_commands_and_events_are_told_apart() -> None:
    assert list(conversation("```console\n$ a b\nx\n# it freezes\n$ c\n```\n")) == [
        ("a b", "x\n"), ("# it freezes", ""), ("c", ""),
    ]  # fmt: skip
