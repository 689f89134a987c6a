"""An agent that is not root: libvirt runs guests as its user, and lets it in."""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytest.importorskip("libvirt", reason="needs libvirt-python")

from tests.real.libvirt_driver import boot_sector
from tests.real.libvirtd import PrivateLibvirtd, missing

pytestmark = pytest.mark.real
USER, GROUP = "nobody", "nogroup"


def test_a_host_needs_no_root_where_guests_run_as_its_user() -> None:
    if reason := missing():
        pytest.skip(reason)
    user, group = pwd.getpwnam(USER).pw_uid, grp.getgrnam(GROUP).gr_gid
    with tempfile.TemporaryDirectory(prefix="pcu-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        image, own = directory / "image", directory / "plain"
        image.write_bytes(boot_sector())
        own.mkdir()
        os.chown(own, user, group)
        (directory / "privileged").mkdir()
        server = PrivateLibvirtd(directory, f"u{os.getpid()}", user=USER, group=GROUP)
        server.start()
        try:
            words = (server.uri, name, image, user, group)
            command = [sys.executable, "-m", "tests.compute_host.unprivileged", *map(str, words)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        finally:
            server.stop()
    assert done.stdout == f"lived as {user}\n", done.stderr
