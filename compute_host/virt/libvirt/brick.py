"""Connections to volumes that the host makes, by os-brick: iSCSI, fibre channel, NVMe-oF, NFS and local paths.

os-brick is loaded when it is first needed: it takes seconds, and starts a process with root's rights.
"""

from __future__ import annotations

import functools
import logging
import shlex
import sys
import threading
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from cell_service.errors import DriverError
from cell_service.logs import about
from compute_host.libvirt_settings import LibvirtSettings

log = logging.getLogger(__name__)

VOLUMES = "volumes"
"""The directory of what a host knows of its volumes, in its own."""
KINDS = frozenset({"iscsi", "iser", "fibre_channel", "nvmeof", "nfs", "local"})
"""The connection types that it is used for."""
_lock = threading.Lock()


class Connector(Protocol):
    """A connector of os-brick, for one type of connections."""

    def connect_volume(self, connection_properties: dict[str, Any]) -> dict[str, Any]:
        """Connect the host, again too. Returns at least the volume's `path`."""

    def disconnect_volume(
        self, connection_properties: dict[str, Any], device_info: dict[str, Any] | None, force: bool = False,
        ignore_errors: bool = False,
    ) -> None: ...  # fmt: skip

    def extend_volume(self, connection_properties: dict[str, Any]) -> int | None:
        """Have the host see the volume's new size. Returns it in bytes."""


class Brick:
    """The connectors of one host. Thread-safe."""

    def __init__(self, options: LibvirtSettings, directory: Path) -> None:
        """`directory`: for os-brick's locks, and what it mounts."""
        self._options, self._directory = options, directory
        self._known: dict[str, Any] | None = None

    def properties(self, host: str, address: str) -> dict[str, Any]:
        """The connector of this host: its name, its initiators and what else storage needs to know of it."""
        plain = {"host": host, "ip": address, "multipath": False, "platform": "x86_64", "os_type": "linux"}
        with _lock:
            if self._known is None:
                self._known = self._inquired(host, address)
            return {**plain, **(self._known or {})}

    def connector(self, kind: str) -> Connector:
        """Raises DriverError."""
        options = self._options
        if _loaded(str(self._directory / "locks"), options.volume_root_helper) is None:
            raise DriverError(reason=f"A volume of type {kind} needs os-brick, which is not installed on this host.")
        from os_brick.exception import BrickException
        from os_brick.initiator.connector import InitiatorConnector

        more = {"nfs_mount_point_base": str(self._directory / "mounts")} if kind == "nfs" else {}
        try:
            made: Connector = InitiatorConnector.factory(
                kind, options.volume_root_helper, use_multipath=options.volume_use_multipath,
                device_scan_attempts=options.num_volume_scan_tries, **more,
            )  # fmt: skip
        except BrickException as error:
            raise DriverError(reason=f"Volumes of type {kind} cannot be connected: {error}") from error
        return made

    def _inquired(self, host: str, address: str) -> dict[str, Any] | None:
        """Properties of the host as os-brick reports them, none where it is not installed; None when it fails."""
        connectors = _loaded(str(self._directory / "locks"), self._options.volume_root_helper)
        if connectors is None:
            return {}
        wants = self._options.volume_use_multipath
        try:
            known = connectors.get_connector_properties(
                self._options.volume_root_helper, address, wants, False, host=host
            )
        except Exception as error:  # noqa: BLE001  whatever the programs do that it runs
            log.warning("os-brick knows nothing of this host", extra=about(None, host=host, reason=error))
            return None
        return dict(known)


@functools.cache
def _loaded(lock_path: str, root_helper: str) -> Any | None:
    """The module of connectors, set up for this process; None where os-brick is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of eventlet, which is not used
            import os_brick
            from os_brick import privileged
            from os_brick.initiator import connector
            from oslo_concurrency import lockutils
            from oslo_config import cfg
    except ImportError:
        return None
    del privileged  # it declares the option below
    lockutils.set_defaults(lock_path)
    os_brick.setup(cfg.CONF)
    helper = [*shlex.split(root_helper), str(Path(sys.executable).with_name("privsep-helper"))]
    cfg.CONF.set_override("helper_command", shlex.join(helper), "privsep_osbrick")
    return connector


def device_path(info: Mapping[str, Any]) -> str:
    """The path in what a connector returned, which may be of bytes. Raises DriverError."""
    path = info.get("path")
    if not path:
        raise DriverError(reason="The connected volume has no path on this host.")
    return path.decode() if isinstance(path, bytes) else str(path)
