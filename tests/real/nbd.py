"""Volumes with real bytes: files that qemu-nbd serves, a unix socket each."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from cell_service.context import Context
from cell_service.model.block_device import BlockDevice
from cell_service.peers.volumes import Connection, Volume
from compute_host.virt.driver import GIB
from tests.real.databases import wait_until


class NbdVolume:
    """A volume, and the server that it has while it is served."""

    def __init__(self, directory: Path, size_gib: int = 1, content: bytes = b"", volume_id: str = "") -> None:
        self.id = volume_id or str(uuid4())
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

    @property
    def size_gib(self) -> int:
        return self.file.stat().st_size // GIB

    def connection_info(self, **data: Any) -> dict[str, Any]:
        """As the block storage service has it of an attachment."""
        usual = {"export": f"volume-{self.id}", "socket": str(self.socket), "access_mode": "rw", "encrypted": False,
                 "qos_specs": None, "discard": True, "volume_id": self.id}  # fmt: skip
        return {"driver_volume_type": "nbd", **usual, **data}

    def device(self, name: str = "/dev/vdb", **fields: Any) -> BlockDevice:
        """The volume as a guest's device."""
        return BlockDevice(
            str(uuid4()), "volume", "volume", device_name=name, volume_id=self.id, volume_size=self.size_gib,
            connection_info=self.connection_info(), **fields,
        )  # fmt: skip


class ServedVolumes:
    """A block storage service whose volumes have bytes: each is served from when it is connected first, and served
    again when it has grown."""

    def __init__(self, service: Any, directory: Path) -> None:
        self._service, self._directory = service, directory
        self._served: dict[str, NbdVolume] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._service, name)

    def get(self, ctx: Context, volume_id: str) -> Volume:
        volume: Volume = self._service.get(ctx, volume_id)
        served = self._served.get(volume_id)
        if served is not None and served.size_gib < volume.size_gib:
            served.kill_server()
            served.extend(volume.size_gib)
            served.serve()
        return volume

    def connect(self, ctx: Context, volume_id: str, *more: Any) -> Connection:
        connection: Connection = self._service.connect(ctx, volume_id, *more)
        if volume_id not in self._served:
            size = self._service.get(ctx, volume_id).size_gib
            self._served[volume_id] = NbdVolume(self._directory, size, volume_id=volume_id)
            self._served[volume_id].serve()
        return replace(connection, info=self._served[volume_id].connection_info())

    def connection(self, ctx: Context, attachment_id: str) -> Connection:
        connection: Connection = self._service.connection(ctx, attachment_id)
        served = self._served.get(connection.info.get("volume_id", ""))
        return connection if served is None else replace(connection, info=served.connection_info())

    def move(self, volume_id: str) -> None:
        """The volume is served at another socket from now on."""
        served = self._served[volume_id]
        served.kill_server()
        served.socket.unlink(missing_ok=True)
        served.socket = served.socket.with_name(f"moved-{served.socket.name}")
        served.serve()

    def close(self) -> None:
        for each in self._served.values():
            each.kill_server()
