"""Many requests at once, during which something dies."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import requests

from tests.faults import books
from tests.faults.installation import Installation, Unmet

AT_ONCE = 4


class Burst:
    """`work` on each item, a few at a time. Requests that fail are the client's affair: `work` answers None."""

    def __init__(self, items: list[str], work: Callable[[str], str | None]) -> None:
        self._work, self._done = work, threading.Semaphore(0)
        self._pool = ThreadPoolExecutor(AT_ONCE)
        self._running = [self._pool.submit(self._one, item) for item in items]

    def midway(self, count: int) -> None:
        """Wait until so many are through."""
        for _ in range(count):
            assert self._done.acquire(timeout=30)

    def done_within(self, seconds: float) -> None:
        """Wait until all are through, but no longer than that."""
        end = time.monotonic() + seconds
        for each in self._running:
            if not each.done():
                threading.Event().wait(max(0.0, min(0.1, end - time.monotonic())))

    def results(self) -> list[str]:
        found = [each.result() for each in self._running]
        self._pool.shutdown()
        return [each for each in found if each]

    def _one(self, item: str) -> str | None:
        try:
            return self._work(item)
        finally:
            self._done.release()


def creating(cloud: Installation, count: int) -> Burst:
    """Answers the uuids that were accepted."""

    def create(name: str) -> str | None:
        try:
            answer = cloud.user.post_server(name)
        except requests.RequestException:
            return None
        return str(answer.json()["server"]["id"]) if answer.status_code == 202 else None

    return Burst([f"s{number}" for number in range(count)], create)


def deleting(cloud: Installation, uuids: list[str]) -> Burst:
    """A client that insists: whatever happens, it asks again until the server is accepted for deletion, or gone."""

    def delete(uuid: str) -> str | None:
        def accepted() -> bool | Unmet:
            try:
                answer = cloud.user.ask("DELETE", f"/servers/{uuid}")
            except requests.RequestException as error:
                return Unmet(error)
            return answer.status_code in (204, 404) or Unmet(answer.text)

        cloud.until(accepted)
        return uuid

    return Burst(uuids, delete)


def settle(cloud: Installation) -> None:
    """Wait until everything answers and nothing is in flight."""
    cloud.until_healthy()
    cloud.until(lambda: not (waiting := books.unsettled(cloud)) or Unmet(waiting))


def sweep(cloud: Installation) -> None:
    """Delete what is there."""
    deleting(cloud, [server["id"] for server in cloud.user.servers()]).results()
    settle(cloud)
