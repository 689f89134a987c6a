"""Vendor data from a file and from services, of which some fail, hang, or never come to an end."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cell_service.config import load
from cell_service.context import internal
from cell_service.errors import Invalid, PeerUnavailable
from cell_service.metadata.config import ApiOptions, MetadataSettings, ProxyOptions, VendordataAuth, read_settings
from cell_service.metadata.vendordata import VendorData
from cell_service.model.operation import BuildArguments
from compute_host.operations.config_drive import ConfigDrives
from tests.metadata import samples
from tests.metadata.test_service import SECRET, Guests, signed
from tests.real.databases import wait_until
from tests.suites.companions import PASSWORDS, start_companions


class Target:
    """A service that is asked for vendor data; `/hang` never answers, `/trickle` never ends."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.tokens: list[str | None] = []
        self.ended = threading.Event()
        target = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                target.tokens.append(self.headers["X-Auth-Token"])
                target.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                if self.path == "/hang":
                    target.ended.wait(60)
                    return
                self.send_response(500 if self.path == "/broken" else 200)
                if self.path == "/trickle":
                    self.end_headers()
                    while not target.ended.wait(0.2):
                        try:
                            self.wfile.write(b" ")
                            self.wfile.flush()
                        except OSError:
                            return
                    return
                body = b"no json" if self.path == "/odd" else json.dumps({"from": self.path}).encode()
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing on the test's output."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def named(self, *names: str) -> tuple[str, ...]:
        return tuple(f"{name}@http://127.0.0.1:{self.server.server_port}/{name}" for name in names)

    def close(self) -> None:
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def target() -> Iterator[Target]:
    made = Target()
    yield made
    made.close()


@pytest.fixture
def vendor_of() -> Iterator[Callable[..., VendorData]]:
    made: list[VendorData] = []

    def make(**options: Any) -> VendorData:
        options = {"vendordata_providers": ("StaticJSON", "DynamicJSON"), **options}
        made.append(VendorData(MetadataSettings(api=ApiOptions(**options))))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_a_file(tmp_path: Path, vendor_of: Callable[..., VendorData]) -> None:
    path = tmp_path / "vendor.json"
    vendor = vendor_of(vendordata_jsonfile_path=str(path))
    ctx = internal()
    assert vendor.static(ctx) == {}
    for text, expected in (('{"a": 1}', {"a": 1}), ("{", {}), ("[1]", {})):
        path.write_text(text)
        assert vendor.about(ctx, samples.content()).static == expected
    assert vendor_of(vendordata_providers=("DynamicJSON",), vendordata_jsonfile_path=str(path)).about(
        ctx, samples.content()
    ).static == {}  # fmt: skip


def test_targets_are_told_of_the_server(target: Target, vendor_of: Callable[..., VendorData]) -> None:
    vendor = vendor_of(vendordata_dynamic_targets=target.named("good", "fine"))
    assert vendor.about(internal(), samples.content()).dynamic == {"good": {"from": "/good"}, "fine": {"from": "/fine"}}
    instance = samples.instance()
    assert target.asked[0] == {
        "project-id": "project-1", "instance-id": instance.uuid, "image-id": instance.image_ref,
        "user-data": instance.user_data, "hostname": "web-one.novalocal", "metadata": instance.metadata,
        "boot-roles": None,
    }  # fmt: skip


def test_one_that_fails_does_not_hurt_the_others(target: Target, vendor_of: Callable[..., VendorData]) -> None:
    targets = (*target.named("broken", "good", "odd"), "gone@http://127.0.0.1:1/", "malformed", "good@http://x/")
    found = vendor_of(vendordata_dynamic_targets=targets).about(internal(), samples.content())
    assert found.dynamic == {"broken": {}, "good": {"from": "/good"}, "odd": {}, "gone": {}}


def test_those_that_hang_are_given_up(target: Target, vendor_of: Callable[..., VendorData]) -> None:
    vendor = vendor_of(
        vendordata_dynamic_targets=target.named("hang", "trickle", "good"),
        vendordata_dynamic_connect_timeout=3, vendordata_dynamic_read_timeout=1,
    )  # fmt: skip
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(vendor.about, internal(), samples.content()).result(timeout=30)
    assert found.dynamic == {"hang": {}, "trickle": {}, "good": {"from": "/good"}}


def test_a_failure_may_be_fatal(target: Target, vendor_of: Callable[..., VendorData]) -> None:
    vendor = vendor_of(vendordata_dynamic_targets=target.named("broken"), vendordata_dynamic_failure_fatal=True)
    with pytest.raises(PeerUnavailable):
        vendor.about(internal(), samples.content())


def test_a_host_asks_for_its_config_drives(target: Target) -> None:
    options = ApiOptions(vendordata_providers=("DynamicJSON",), vendordata_dynamic_targets=target.named("good"))
    drives = ConfigDrives(MetadataSettings(api=options))
    build = BuildArguments(injected_files=samples.FILES, admin_password="pw")
    files = {file.path: file.content for file in drives(internal(), samples.instance(), samples.VIFS, build)}
    drives.close()
    assert json.loads(files["openstack/latest/vendor_data2.json"])["good"] == {"from": "/good"}
    assert json.loads(files["openstack/latest/meta_data.json"])["admin_pass"] == "pw"
    assert files["openstack/content/0000"] == b"hello\0\xff"
    assert files["openstack/latest/user_data"] == samples.ODD_BYTES
    assert "ec2/1.0/meta-data.json" not in files
    assert "ec2/2009-04-04/meta-data.json" in files


@pytest.mark.parametrize(
    "text",
    ["[neutron]\nservice_metadata_proxy = true\n", "[api]\nvendordata_providers = Other\n"],
)
def test_settings_that_cannot_be(tmp_path: Path, text: str) -> None:
    path = tmp_path / "nova.conf"
    path.write_text(text)
    with pytest.raises(Invalid):
        read_settings(load([str(path)]))


def test_targets_get_a_token_of_our_account(target: Target, tmp_path: Path) -> None:
    cloud = start_companions(tmp_path)
    try:
        account = {"username": "admin", "password": PASSWORDS["admin"], "project_name": "admin"}
        auth = VendordataAuth(account={"auth_url": cloud.identity.url, **account})
        options = ApiOptions(
            vendordata_providers=("DynamicJSON",), vendordata_dynamic_targets=target.named("good"),
        )  # fmt: skip
        vendor = VendorData(MetadataSettings(api=options, vendordata_auth=auth))
        assert vendor.about(internal(), samples.content()).dynamic == {"good": {"from": "/good"}}
        vendor.close()
        assert target.tokens[0]
    finally:
        cloud.close()


def test_one_that_hangs_does_not_hold_up_other_documents(target: Target, tmp_path: Path) -> None:
    """As many guests wait for it as there are threads, and more; all others are answered."""
    options = ApiOptions(
        vendordata_providers=("StaticJSON", "DynamicJSON"), vendordata_dynamic_targets=target.named("hang"),
        vendordata_dynamic_connect_timeout=3, vendordata_dynamic_read_timeout=60, metadata_cache_expiration=0,
    )  # fmt: skip
    guests = Guests(tmp_path, MetadataSettings(api=options, proxy=ProxyOptions(True, SECRET)))
    guests.add(samples.instance())
    with ThreadPoolExecutor(6) as pool:
        waiting = [pool.submit(guests.ask, "/openstack/latest/vendor_data2.json", signed()) for _ in range(6)]
        wait_until(lambda: len(target.asked) >= 4, "nobody asks the target")
        assert guests.ask("/openstack/latest/meta_data.json", signed())[0] == 200
        assert guests.ask("/openstack/latest/vendor_data.json", signed())[:2] == (200, b"{}")
        assert not any(one.done() for one in waiting)
        target.ended.set()
        assert {one.result(timeout=60)[:2] for one in waiting} == {(200, b'{"static": {}, "hang": {}}')}
    guests.close()
