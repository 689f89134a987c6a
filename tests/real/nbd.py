"""Volumes with real bytes: files that qemu-nbd serves, a unix socket each."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any
from uuid import uuid4

from cell_service.model.block_device import BlockDevice
from compute_host.virt.driver import GIB
from tests.real.databases import wait_until


class NbdVolume:
    """A volume, and the server that it has while it is served."""

    def __init__(self, directory: Path, size_gib: int = 1, content: bytes = b"") -> None:
        self.id = str(uuid4())
        self.file, self.socket = directory / f"volume-{self.id}", directory / f"{self.id[:8]}.sock"
        with self.file.open("wb") as file:
            file.write(content)
            file.truncate(size_gib * GIB)
        self._server: subprocess.Popen[bytes] | None = None

    def serve(self) -> None:
        export = f"volume-{self.id}"
        command = ["qemu-nbd", "--persistent", "--shared=0", "--format=raw", "--discard=unmap", "--cache=writeback",
                   f"--socket={self.socket}", f"--export-name={export}", self.file]  # fmt: skip
        self.socket.unlink(missing_ok=True)
        self._server = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        wait_until(self.socket.exists, "qemu-nbd does not start")

    def kill_server(self) -> None:
        if self._server is not None:
            self._server.kill()
            self._server.wait()
        self._server = None

    def extend(self, size_gib: int) -> None:
        """The file is larger; a server that runs does not know it."""
        with self.file.open("r+b") as file:
            file.truncate(size_gib * GIB)

    def device(self, name: str = "/dev/vdb", **fields: Any) -> BlockDevice:
        """The volume as a guest's device."""
        data = {"export": f"volume-{self.id}", "socket": str(self.socket), "access_mode": "rw", "encrypted": False,
                "qos_specs": None, "discard": True, "volume_id": self.id, **fields.pop("data", {})}  # fmt: skip
        info = {"driver_volume_type": "nbd", "data": data}
        size = self.file.stat().st_size // GIB
        return BlockDevice(
            str(uuid4()), "volume", "volume", device_name=name, volume_id=self.id, volume_size=size,
            connection_info=info, **fields,
        )  # fmt: skip
