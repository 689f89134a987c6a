"""A client that sends one request again and again: a process of its own, which imports little.

    python bench/asking.py URL TOKEN PAUSE_SECONDS

Prints "ready" after the first answer, and goes on until a line comes in; then prints as JSON when each request began,
how long it took (seconds of the machine's monotonic clock) and its status.
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
    answers: list[tuple[float, float, int]] = []
    while not ended.wait(pause):
        began = time.monotonic()
        connection.request("GET", where.path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        answers.append((began, time.monotonic() - began, answer.status))
        if len(answers) == 1:
            print("ready", flush=True)
            threading.Thread(target=listen, name="until-line", daemon=True).start()
    print(json.dumps(answers))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
