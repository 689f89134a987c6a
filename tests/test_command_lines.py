"""Every command of the four programs: its help, its examples, completion, and the pages made of them."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools import command_reference
from tools.command_line import SHELLS, leaves
from tools.command_reference import PROGRAMS

COMMANDS = [each for program in PROGRAMS.values() for each in leaves(program())]
ROOT = Path(command_reference.__file__).parents[1]


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_of_every_command_fits_80_columns(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    made = PROGRAMS[program]()
    wide = [line for each in (made, *leaves(made)) for line in each.format_help().splitlines() if len(line) > 80]
    assert wide == []


@pytest.mark.parametrize("command", COMMANDS, ids=lambda each: each.prog)
def test_every_command_has_examples_that_it_understands(command: object) -> None:
    found = command_reference.examples(command)  # type: ignore[arg-type]
    assert len(found) >= 2
    for line in found:
        program, *words = shlex.split(line.partition(" | ")[0].partition(" > ")[0])
        assert line.startswith(command.prog)  # type: ignore[attr-defined]
        PROGRAMS[program]().parse_args(words)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda each: each.prog)
def test_every_command_lists_its_exit_codes_and_explains_its_arguments(command: object) -> None:
    assert "exit codes:" in command.format_help()  # type: ignore[attr-defined]
    assert [each.dest for each in command._actions if not each.help] == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("shell", SHELLS)
def test_shells_complete_every_program(program: str, shell: str, tmp_path: Path) -> None:
    main = {"polycell": "tools.up.main", "polycell-manage": "tools.manage.main",
            "polycell-policy": "tools.policy", "polycell-status": "tools.manage.status"}[program]  # fmt: skip
    done = subprocess.run([sys.executable, "-m", main, "--print-completion", shell],
                          capture_output=True, text=True, check=True)  # fmt: skip
    words = {word for each in leaves(PROGRAMS[program]()) for word in each.prog.split()[1:]}
    assert all(word in done.stdout for word in words)
    if shutil.which(shell):
        script = tmp_path / "script"
        script.write_text(done.stdout)
        subprocess.run([shell, "-n", script], check=True)


def test_the_page_of_all_commands_is_fresh() -> None:
    page = ROOT / "docs" / "commands.md"
    assert page.read_text(encoding="utf-8") == command_reference.page(), "python -m tools.command_reference"


@pytest.mark.parametrize("program", PROGRAMS)
def test_manual_pages_are_fresh(program: str) -> None:
    page = ROOT / "docs" / "man" / f"{program}.1"
    assert page.read_text(encoding="utf-8") == command_reference.manual(program), "python -m tools.command_reference"
