"""Whether QEMU runs is proven, under a limit, and remembered."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path

import pytest

from compute_host.virt.libvirt.probe import QEMU, works

needs_qemu = pytest.mark.skipif(shutil.which(QEMU) is None, reason=f"needs {QEMU}")


@needs_qemu
def test_plain_translation_works_and_is_remembered(tmp_path: Path) -> None:
    kept = tmp_path / "probe.json"
    assert works("tcg", kept)
    known = json.loads(kept.read_text())
    assert known["works"] is True
    kept.write_text(json.dumps({**known, "works": False}))
    assert not works("tcg", kept), "the answer is not asked for again"
    kept.write_text(json.dumps({"circumstances": ["another boot"], "works": False}))
    assert works("tcg", kept), "an answer of another boot does not count"
    kept.write_text("broken {")
    assert works("tcg", kept)


@pytest.mark.parametrize("words", ["exec sleep 1000", "exit 0", "exit 1", "kill -9 $$"])
def test_a_qemu_that_hangs_or_fails_does_not_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    program = tmp_path / QEMU
    program.write_text(f'#!/bin/sh\n[ "$1" = --version ] && exit 0\n{words}\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert not works("tcg", limit_seconds=0.3)


def test_without_qemu_nothing_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not works("tcg", tmp_path / "probe.json")
