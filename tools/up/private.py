"""Files that only their owner reads: a cloud's databases have keys and user data, its hosts private images."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

OWNER_ALONE = 0o077
"""The umask of a cloud's processes."""
OTHERS_PASS = 0o066
"""The umask where the QEMU of a shared libvirt, which is another user's, opens files whose paths it knows."""


def close(state: Path, umask: int, directories: Iterable[str]) -> None:
    """Leave others no more of the state directory, and of these directories in it with all that is in them, than the
    umask does; what this process and its children make from now on has it too. Links are left alone. Raises OSError
    for a file of another user."""
    os.umask(umask)
    _set_mode(state, umask)
    for top in directories:
        if not (state / top).is_symlink():
            _set_mode(state / top, umask)
            for directory, below, files in os.walk(state / top):
                for name in (*below, *files):
                    _set_mode(Path(directory, name), umask)


def _set_mode(path: Path, umask: int) -> None:
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            return
        entered = 0o111 & ~umask if stat.S_ISDIR(mode) else 0
        wanted = stat.S_IMODE(mode) & ~umask | entered
        if wanted != stat.S_IMODE(mode):
            path.chmod(wanted)
    except FileNotFoundError:
        return  # a process of the cloud has removed it meanwhile
