"""What an installation has besides the modules of its packages."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = {path.name for path in (ROOT / "docs" / "man").glob("*.1")}
KEPT = ("*.egg-info", "__pycache__", ".*", "build", "tests", "bench")


@pytest.mark.wide
def test_an_installation_has_the_manual_pages_and_the_files_of_its_packages(tmp_path: Path) -> None:
    source, root = tmp_path / "source", tmp_path / "installed"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*KEPT))  # a build writes into what it reads
    words = ["--quiet", "install", "--root", str(root), "--prefix", "/usr", "--single-version-externally-managed"]
    done = subprocess.run(
        [sys.executable, "setup.py", *words, "--record", str(tmp_path / "record")],
        cwd=source, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert PAGES == {path.name for path in (root / "usr/share/man/man1").iterdir()} != set()
    programs = {path.name for path in root.glob("usr/**/bin/*")}
    assert programs >= {page.removesuffix(".1") for page in PAGES}
    (package,) = root.glob("usr/**/*-packages/tools")
    assert (package / "hypervisors" / "init.sh").is_file()
    assert (package / "guest" / "packages.txt").is_file()
    (pages,) = root.glob("usr/**/*-packages/cell_service/consoles/web")
    here = ROOT / "cell_service" / "consoles" / "web"
    assert _files(pages) == _files(here)


def _files(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
