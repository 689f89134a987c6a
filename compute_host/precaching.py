"""Images that a host fetches before the first build from them, a few at a time, on threads of their own."""

from __future__ import annotations

import logging
import threading

from cell_service.context import Clock, internal
from cell_service.errors import PolycellError
from cell_service.logs import about
from compute_host.image_cache import ImageCache

log = logging.getLogger(__name__)

SECONDS = 3600.0
"""The time limit of one image."""


class Precaching:
    """Thread-safe. Images that are not fetched when the agent ends are fetched by the builds that need them."""

    def __init__(self, images: ImageCache | None, clock: Clock, host: str, concurrency: int = 1) -> None:
        self._images, self._clock, self._host = images, clock, host
        self._lock = threading.Lock()
        self._wanted: dict[str, None] = {}
        self._concurrency, self._busy = concurrency, 0

    def want(self, image_ids: tuple[str, ...]) -> None:
        """Have the images fetched. Returns at once."""
        with self._lock:
            self._wanted.update(dict.fromkeys(image_ids))
            if self._images is None:
                return
            begun = min(len(self._wanted), self._concurrency - self._busy)
            self._busy += begun
        for _ in range(begun):
            threading.Thread(target=self._fetch, name=f"{self._host}: images", daemon=True).start()

    def _fetch(self) -> None:
        while (image_id := self._next()) is not None:
            ctx = internal(self._clock, seconds=SECONDS)
            try:
                assert self._images is not None
                self._images.fetch(ctx, image_id)
            except (PolycellError, OSError) as error:
                log.warning("image not cached", extra=about(ctx, host=self._host, image=image_id, reason=error))

    def _next(self) -> str | None:
        with self._lock:
            if not self._wanted:
                self._busy -= 1
                return None
            image_id = next(iter(self._wanted))
            del self._wanted[image_id]
            return image_id
