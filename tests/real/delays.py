"""A server behind a line on which every answer takes its time."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def delayed(port: int, seconds: float) -> Iterator[int]:
    """The port of a proxy before the server at `port` of this machine: each piece of an answer comes `seconds` late."""
    ended = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    opened: list[socket.socket] = [listener]

    def copy(source: socket.socket, target: socket.socket, late: float) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                ended.wait(late)
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client = listener.accept()[0]
                server = socket.create_connection(("127.0.0.1", port))
                opened.extend((client, server))
                for words in ((client, server, 0.0), (server, client, seconds)):
                    threading.Thread(target=copy, args=words, daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        ended.set()
        for each in opened:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        thread.join()
