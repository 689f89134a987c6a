"""Whether the hosts of a cloud reach what is in volumes."""

from __future__ import annotations

import grp
import os
from urllib.parse import urlsplit

from tools.companions.volume.settings import NBD
from tools.up.drivers import LIBVIRT_USER, Choice


def volume_options(choice: Choice) -> dict[str, object]:
    """Options of [companions]. The guests of private hosts are root's, as the companion is; those of a user's own
    libvirt are that user's; those of a system's libvirt belong to a user of their own, whose group may open sockets."""
    if choice.driver != "libvirt":
        return {}
    is_of_system = urlsplit(choice.libvirt_uri).path == "/system" and os.geteuid() == 0
    has_group = any(one.gr_name == LIBVIRT_USER for one in grp.getgrall())
    return {"volume_export": NBD, "volume_export_group": LIBVIRT_USER if is_of_system and has_group else ""}
