"""QEMU may fail to measure its own speed, on which a LUKS header depends: that is no failure of ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from cell_service.errors import DriverError
from compute_host.virt.libvirt.drive import make_luks


def failing(directory: Path, times: int, message: str) -> list[str | Path]:
    """A command that fails so often, and then succeeds. It notes each time that it is run."""
    program, runs = directory / "program", directory / "runs"
    program.write_text(
        f'#!/bin/sh\necho >> {runs}\n[ $(wc -l < {runs}) -gt {times} ] || {{ echo "{message}" >&2; exit 1; }}\n',
        "utf-8",
    )
    program.chmod(0o755)
    return [program, "create"]


def count(directory: Path) -> int:
    return len((directory / "runs").read_text("utf-8").splitlines())


def test_a_measurement_that_fails_is_made_again(tmp_path: Path) -> None:
    make_luks(failing(tmp_path, 3, "qemu-img: x: Unable to get accurate CPU usage"))
    assert count(tmp_path) == 4


def test_one_that_always_fails_is_said(tmp_path: Path) -> None:
    with pytest.raises(DriverError, match="accurate CPU usage"):
        make_luks(failing(tmp_path, 1000, "qemu-img: x: Unable to get accurate CPU usage"))
    assert 1 < count(tmp_path) < 100


def test_another_failure_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(DriverError, match="Permission denied"):
        make_luks(failing(tmp_path, 1, "qemu-img: x: Permission denied"))
    assert count(tmp_path) == 1
