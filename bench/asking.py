"""A client that asks for one thing again and again: a process of its own, which imports little.

    python bench/asking.py URL TOKEN PAUSE_SECONDS

Says "ready" after the first answer, and asks until a line comes in; then tells as JSON when each request began, how
long it took (seconds of the machine's monotonic clock) and its status.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from urllib.parse import urlsplit


def main(url: str, token: str, pause: float) -> None:
    ended = threading.Event()

    def listen() -> None:
        sys.stdin.readline()
        ended.set()

    where = urlsplit(url)
    headers = {"X-Auth-Token": token, "OpenStack-API-Version": "compute 2.96"}
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=30)
    told: list[tuple[float, float, int]] = []
    while not ended.wait(pause):
        began = time.monotonic()
        connection.request("GET", where.path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        told.append((began, time.monotonic() - began, answer.status))
        if len(told) == 1:
            print("ready", flush=True)
            threading.Thread(target=listen, name="until-told", daemon=True).start()
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
