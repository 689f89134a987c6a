"""Consoles of simulated guests: a port on loopback for each that was requested, which greets and echoes."""

from __future__ import annotations

import socketserver
import threading

ADDRESS = "127.0.0.1"
_CHUNK = 4096


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    greeting = b""


class _Talk(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        try:
            self.request.sendall(self.server.greeting)
            while data := self.request.recv(_CHUNK):
                self.request.sendall(data)
        except OSError:
            pass  # the client has gone


class Consoles:
    """Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._servers: dict[tuple[str, str], _Server] = {}

    def port(self, uuid: str, kind: str, greeting: str) -> int:
        """The port of the guest's console of that kind."""
        with self._lock:
            server = self._servers.get((uuid, kind))
            if server is None:
                server = self._servers[uuid, kind] = _Server((ADDRESS, 0), _Talk)
                threading.Thread(target=server.serve_forever, name=f"console-{uuid}", daemon=True).start()
            server.greeting = greeting.encode()
            return int(server.server_address[1])

    def forget(self, uuid: str) -> None:
        """Close the guest's consoles."""
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
        server.shutdown()
        server.server_close()
