"""Files that the proxy serves: those of our page, and of another viewer."""

from __future__ import annotations

from asyncio import Future
from datetime import datetime

from tornado.web import StaticFileHandler

from cell_service.http.connections import watch_reader

YEAR_SECONDS = 365 * 86400


class Viewer(StaticFileHandler):
    """Files of a viewer, framed only by pages that are allowed."""

    def get_content_type(self) -> str:
        script = (self.absolute_path or "").endswith((".js", ".mjs"))
        return "text/javascript" if script else super().get_content_type()

    def set_extra_headers(self, path: str) -> None:
        for name, value in self.settings["framing"].items():
            self.set_header(name, value)

    def flush(self, include_footers: bool = False) -> Future[None]:
        sent = super().flush(include_footers)
        watch_reader(self.request.connection, sent)
        return sent


class OurFiles(Viewer):
    """Files of our page, whose address changes with them."""

    def get_cache_time(self, path: str, modified: datetime | None, mime_type: str) -> int:
        return YEAR_SECONDS
