"""Records of other services that are not as they should be."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from cell_service.context import Context, Deadline
from cell_service.errors import PeerUnavailable
from cell_service.peers.cinder import open_volumes
from cell_service.peers.glance.images import open_images
from cell_service.peers.settings import CinderSettings, GlanceSettings

GOOD = {"id": "good", "status": "available", "size": 1, "os-vol-tenant-attr:tenant_id": "p1"}
ID = "11111111-2222-4333-8444-555555555555"


class Service(ThreadingHTTPServer):
    """Answers every request with `shown`."""

    daemon_threads = True
    shown: Any = None


class _Handler(BaseHTTPRequestHandler):
    server: Service

    def do_GET(self) -> None:
        body = json.dumps(self.server.shown).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def url(service: Service) -> str:
    return f"http://127.0.0.1:{service.server_address[1]}"


@pytest.fixture
def ctx() -> Context:
    return Context("req-1", project_id="p1", deadline=Deadline.after(20))


@pytest.mark.parametrize(
    "odd",
    [
        {"metadata": "x"}, {"metadata": ["x"]}, {"attachments": "x"}, {"attachments": [1]}, {"attachments": {"a": 1}},
        {"volume_image_metadata": 5}, {"metadata": {"a": 1}},
    ],
)  # fmt: skip
def test_a_volume_with_odd_parts_is_shown_without_them(service: Service, ctx: Context, odd: dict[str, Any]) -> None:
    volumes = open_volumes(CinderSettings(auth_type="none", endpoint_override=url(service)))
    service.shown = {"volumes": [GOOD, GOOD | odd], "volume": GOOD | odd}
    assert [volume.id for volume in volumes.all(ctx)] == ["good", "good"]
    found = volumes.get(ctx, ID)
    assert all(isinstance(value, str) for value in found.metadata.values())
    assert found.attachments == ()


@pytest.mark.parametrize("odd", [{}, {"size": "big"}, {"size": None}, {"attachments": [{}]}, "x", None, 7])
def test_a_volume_that_cannot_be_read_is_left_out_of_the_list(service: Service, ctx: Context, odd: Any) -> None:
    volumes = open_volumes(CinderSettings(auth_type="none", endpoint_override=url(service)))
    record = (GOOD | odd if odd else {}) if isinstance(odd, dict) else odd
    service.shown = {"volumes": [GOOD, record], "volume": record}
    assert [volume.id for volume in volumes.all(ctx)] == ["good"]
    with pytest.raises(PeerUnavailable, match="cannot be read"):
        volumes.get(ctx, ID)
    service.shown = {"snapshots": [record, {**GOOD, "volume_id": "v", "project_id": "p1"}]}
    assert "good" in [snapshot.id for snapshot in volumes.snapshots(ctx)]


def test_an_image_that_cannot_be_read_is_left_out_of_the_list(service: Service, ctx: Context) -> None:
    images = open_images(GlanceSettings(auth_type="none", endpoint_override=url(service)))
    good = {"id": "good", "status": "active", "owner": "p1"}
    service.shown = {"images": [{"id": "odd"}, "x", good | {"size": []}, good | {"created_at": "x"}, good]}
    assert [image.id for image in images.find(ctx, "p1", {})] == ["good", "good"]
