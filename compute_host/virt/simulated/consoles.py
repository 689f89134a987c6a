"""Consoles of simulated guests: a port on loopback for each that was requested. By VNC there is a screen; others greet
and echo."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading

from compute_host.virt.simulated import screens

ADDRESS = "127.0.0.1"
SCREEN = "novnc"
_CHUNK = 4096


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    kind = name = ""

    def __init__(self) -> None:
        super().__init__((ADDRESS, 0), _Talk)
        self._lock = threading.Lock()
        self._clients: set[socket.socket] = set()

    def opened(self, client: socket.socket) -> None:
        with self._lock:
            self._clients.add(client)

    def ended(self, client: socket.socket) -> None:
        with self._lock:
            self._clients.discard(client)

    def end(self) -> None:
        """Listen no more, and close all connections."""
        self.shutdown()
        self.server_close()
        with self._lock:
            for client in self._clients:
                with contextlib.suppress(OSError):  # the client has gone
                    client.shutdown(socket.SHUT_RDWR)


class _Talk(socketserver.BaseRequestHandler):
    server: _Server
    request: socket.socket

    def handle(self) -> None:
        self.server.opened(self.request)
        try:
            if self.server.kind == SCREEN:
                screens.serve(self.request, self.server.name)
                return
            self.request.sendall(f"\r\n{self.server.name} login: ".encode())
            while data := self.request.recv(_CHUNK):
                self.request.sendall(data)
        except OSError:
            pass  # the client has gone
        finally:
            self.server.ended(self.request)


class Consoles:
    """Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._servers: dict[tuple[str, str], _Server] = {}

    def port(self, uuid: str, kind: str, name: str) -> int:
        """The port of the guest's console of that kind; `name`: the guest's."""
        with self._lock:
            server = self._servers.get((uuid, kind))
            if server is None:
                server = self._servers[uuid, kind] = _Server()
                threading.Thread(target=server.serve_forever, name=f"console-{uuid}", daemon=True).start()
            server.kind, server.name = kind, name
            return int(server.server_address[1])

    def forget(self, uuid: str) -> None:
        """Close the guest's consoles, with the connections to them."""
        with self._lock:
            gone = [self._servers.pop(key) for key in list(self._servers) if key[0] == uuid]
        _end(gone)

    def stop(self) -> None:
        with self._lock:
            gone = list(self._servers.values())
            self._servers.clear()
        _end(gone)


def _end(servers: list[_Server]) -> None:
    for server in servers:
        server.end()
