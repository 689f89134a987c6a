"""The image client against the image companion."""

from __future__ import annotations

import hashlib
import socket
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests

from cell_service.context import Context, Deadline, new_request_id
from cell_service.errors import Forbidden, ImageNotFound, ImageUnacceptable, Invalid, PeerUnavailable
from cell_service.peers.glance.images import open_images
from cell_service.peers.image import ImageQuery, Images, NewImage
from cell_service.peers.settings import GlanceSettings
from tests.suites.companions import Companions

CONTENT = b"a bootable disk" * 100_000


@pytest.fixture
def images(cloud: Companions) -> Images:
    return open_images(cloud.glance)


def ctx(project: str = "anybody", *, is_admin: bool = False) -> Context:
    return Context(new_request_id(), project_id=project, is_admin=is_admin, deadline=Deadline.after(20))


def send(cloud: Companions, method: str, path: str, **more: Any) -> requests.Response:
    headers = {"X-Auth-Token": cloud.token(), **more.pop("headers", {})}
    reply = requests.request(method, f"{cloud.image.url}/v2{path}", headers=headers, timeout=10, **more)
    assert reply.ok, reply.text
    return reply


def add(cloud: Companions, content: bytes | None = CONTENT, **fields: Any) -> str:
    record = {"name": "disk", "disk_format": "raw", "container_format": "bare", **fields}
    image_id = str(send(cloud, "POST", "/images", json=record).json()["id"])
    if content is not None:
        octets = {"Content-Type": "application/octet-stream"}
        send(cloud, "PUT", f"/images/{image_id}/file", data=content, headers=octets)
    return image_id


def test_a_record_is_read(cloud: Companions, images: Images) -> None:
    image_id = add(cloud, min_disk=3, min_ram=64, hw_disk_bus="virtio", visibility="public")
    image = images.get(ctx(), image_id)
    assert (image.status, image.size_bytes, image.min_disk_gib, image.min_ram_mib) == ("active", len(CONTENT), 3, 64)
    assert (image.os_hash_algo, image.os_hash_value) == ("sha512", hashlib.sha512(CONTENT).hexdigest())
    assert image.properties == {"hw_disk_bus": "virtio"}


def test_the_content_is_fetched_whole(cloud: Companions, images: Images, tmp_path: Path) -> None:
    image = images.get(ctx(is_admin=True), add(cloud))
    images.download(ctx(), image, tmp_path / "disk")
    assert (tmp_path / "disk").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["disk"]


@pytest.mark.parametrize("lie", [b"b" + CONTENT[1:], CONTENT[:-1], CONTENT + b"x", b""])
def test_content_that_is_not_what_the_record_says_is_refused(
    cloud: Companions, images: Images, tmp_path: Path, lie: bytes
) -> None:
    image = images.get(ctx(is_admin=True), add(cloud))
    (cloud.state / "images" / image.id).write_bytes(lie)
    with pytest.raises(ImageUnacceptable):
        images.download(ctx(), image, tmp_path / "disk")
    assert list(tmp_path.iterdir()) == []


def test_an_image_without_content_is_refused(cloud: Companions, images: Images, tmp_path: Path) -> None:
    image = replace(images.get(ctx(is_admin=True), add(cloud, None)), checksum="0" * 32)
    with pytest.raises(ImageUnacceptable):
        images.download(ctx(), image, tmp_path / "disk")


def test_an_image_that_is_gone_is_not_found(cloud: Companions, images: Images, tmp_path: Path) -> None:
    image = images.get(ctx(is_admin=True), add(cloud))
    send(cloud, "DELETE", f"/images/{image.id}")
    with pytest.raises(ImageNotFound):
        images.get(ctx(is_admin=True), image.id)
    with pytest.raises(ImageNotFound):
        images.download(ctx(), image, tmp_path / "disk")


@pytest.mark.parametrize("image_id", ["", "nonsense", "../images", "00000000-0000-0000-0000-000000000000", "a/b", "ä"])
def test_unknown_ids_are_not_found(images: Images, image_id: str) -> None:
    with pytest.raises(ImageNotFound):
        images.get(ctx(), image_id)


def test_a_project_sees_what_it_may(cloud: Companions, images: Images) -> None:
    private = add(cloud, None, visibility="private")
    shared = add(cloud, None, visibility="shared")
    community = add(cloud, None, visibility="community")
    send(cloud, "POST", f"/images/{shared}/members", json={"member": "friend"})
    owner = images.get(ctx(is_admin=True), private).owner

    assert images.get(ctx(owner), private).id == private
    assert images.get(ctx("friend"), shared).id == shared
    assert images.get(ctx("stranger"), community).id == community
    for project, image_id in (("stranger", private), ("stranger", shared), ("", shared), ("friend", private)):
        with pytest.raises(ImageNotFound):
            images.get(ctx(project), image_id)


def listed(images: Images, token: str, **wanted: Any) -> list[str]:
    """Ids, page after page."""
    found: list[str] = []
    page = images.page(ctx(), token, ImageQuery(**{"limit": 1000, **wanted}))
    found += [image.id for image in page.images]
    while page.more:
        page = images.page(ctx(), token, ImageQuery(**{"limit": 1000, **wanted, "marker": found[-1], "offset": 0}))
        found += [image.id for image in page.images]
    return found


def test_a_list_is_what_the_image_service_shows_to_the_user(cloud: Companions, images: Images) -> None:
    made = {each: add(cloud, None, visibility=each) for each in ("public", "private", "shared", "community")}
    demo, admin = cloud.token("demo", "demo"), cloud.token()
    project = cloud.sdk("demo", "demo").current_project_id
    send(cloud, "POST", f"/images/{made['shared']}/members", json={"member": project})
    assert set(made.values()) & set(listed(images, demo)) == {made["public"]}, "it has not been accepted yet"

    accepted = {"json": {"status": "accepted"}, "headers": {"X-Auth-Token": demo}}
    send(cloud, "PUT", f"/images/{made['shared']}/members/{project}", **accepted)

    assert set(made.values()) & set(listed(images, demo)) == {made["public"], made["shared"]}
    every = listed(images, admin)
    assert set(made.values()) <= set(every)
    assert len(every) == len(set(every))


def test_a_list_comes_by_the_services_own_pages(cloud: Companions, images: Images) -> None:
    token, mark = cloud.token(), uuid4().hex
    made = [add(cloud, None, mark=mark) for _ in range(7)][::-1]
    of_these = {"properties": {"mark": mark}}
    for limit in (1, 2, 3, 7, 1000):
        assert listed(images, token, limit=limit, **of_these) == made
        assert listed(images, token, limit=limit, offset=3, **of_these) == made[3:]
    assert listed(images, token, marker=made[4], **of_these) == made[5:]
    assert listed(images, token, offset=2**31, **of_these) == []
    with pytest.raises(Invalid):
        listed(images, token, marker=str(uuid4()), **of_these)


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        ({"name": "disk"}, True),
        ({"name": "gt:disk"}, False),
        ({"statuses": ("queued", "saving")}, True),
        ({"statuses": ("active",)}, False),
        ({"min_disk_gib": 3}, True),
        ({"min_ram_mib": 3}, False),
        ({"changed_since": datetime(2020, 1, 1, tzinfo=UTC)}, True),
        ({"changed_since": datetime(2200, 1, 1, tzinfo=UTC)}, False),
        ({"properties": {"kind": "x"}}, True),
        ({"properties": {"kind": "y"}}, False),
        ({"properties": {"limit": "1"}}, False),
    ],
)
def test_a_list_has_what_fits(cloud: Companions, images: Images, wanted: dict[str, Any], fits: bool) -> None:
    made = add(cloud, None, min_disk=3, kind="x")
    assert (made in listed(images, cloud.token(), **wanted)) is fits


def test_properties_of_an_image_are_set_and_taken_away(cloud: Companions, images: Images) -> None:
    image = images.get(ctx(is_admin=True), add(cloud, None, visibility="public", kept="1", lost="2", changed="3"))
    after = images.describe(ctx(image.owner), image.id, {"kept": "1", "changed": "4", "a~b": "5"})
    assert after.properties == {"kept": "1", "changed": "4", "a~b": "5"}
    assert images.get(ctx("stranger"), image.id).properties == after.properties
    assert images.describe(ctx(image.owner), image.id, after.properties) == after


@pytest.mark.parametrize("name", ["owner", "visibility", "status", "id"])
def test_fields_of_an_image_are_no_properties(cloud: Companions, images: Images, name: str) -> None:
    image = images.get(ctx(is_admin=True), add(cloud, None, visibility="public"))
    with pytest.raises(Forbidden):
        images.describe(ctx(image.owner), image.id, {name: "public"})
    assert images.get(ctx(is_admin=True), image.id) == image


def test_another_projects_image_is_neither_changed_nor_removed(cloud: Companions, images: Images) -> None:
    public, private = add(cloud, None, visibility="public"), add(cloud, None, visibility="private")
    for image_id, error in ((public, Forbidden), (private, ImageNotFound)):
        with pytest.raises(error):
            images.remove(ctx("stranger"), image_id)
        with pytest.raises(error):
            images.describe(ctx("stranger"), image_id, {"a": "b"})
    images.remove(ctx(is_admin=True), public)
    with pytest.raises(ImageNotFound):
        images.remove(ctx(is_admin=True), public)


def test_a_protected_image_stays(cloud: Companions, images: Images) -> None:
    image = images.get(ctx(is_admin=True), add(cloud, None, protected=True))
    with pytest.raises(Forbidden):
        images.remove(ctx(image.owner), image.id)
    assert images.get(ctx(image.owner), image.id) == image


def new(**fields: Any) -> NewImage:
    return NewImage(id=str(uuid4()), name="web-shelved", owner="some-project", disk_format="raw", **fields)


def test_an_image_is_made_once_for_its_project(images: Images, tmp_path: Path) -> None:
    content, image = tmp_path / "disk", new(min_disk_gib=2, properties={"instance_uuid": "i"})
    content.write_bytes(CONTENT)
    images.upload(ctx(is_admin=True), image, content)
    made = images.get(ctx("some-project"), image.id)
    assert (made.status, made.name, made.visibility, made.min_disk_gib) == ("active", "web-shelved", "private", 2)
    assert made.properties == {"instance_uuid": "i"}
    content.write_bytes(b"something else")
    images.upload(ctx(is_admin=True), image, content)
    images.download(ctx(), made, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == CONTENT


def test_an_image_that_was_begun_is_gone_on_with(cloud: Companions, images: Images, tmp_path: Path) -> None:
    content = tmp_path / "disk"
    content.write_bytes(CONTENT)
    begun = replace(new(), id=add(cloud, None))
    images.upload(ctx(is_admin=True), begun, content)
    assert images.get(ctx(is_admin=True), begun.id).size_bytes == len(CONTENT)


def test_an_image_that_was_reserved_is_filled(images: Images, tmp_path: Path) -> None:
    content, owner = tmp_path / "disk", uuid4().hex
    content.write_bytes(CONTENT)
    marks = {"image_type": "backup", "backup_type": "daily"}
    made = [replace(new(properties=marks), owner=owner, disk_format="") for _ in range(2)]
    for image in made:
        images.reserve(ctx(is_admin=True), image)
        images.reserve(ctx(is_admin=True), image)
        assert images.get(ctx(owner), image.id).status == "queued"
    images.upload(ctx(is_admin=True), replace(made[0], disk_format="qcow2"), content)
    filled = images.get(ctx(owner), made[0].id)
    assert (filled.status, filled.disk_format, filled.properties) == ("active", "qcow2", marks)
    images.reserve(ctx(is_admin=True), replace(new(properties={**marks, "backup_type": "weekly"}), owner=owner))
    images.reserve(ctx(is_admin=True), replace(new(properties=marks), owner="somebody else"))
    found = images.find(ctx(is_admin=True), owner, marks)
    assert {image.id for image in found} == {image.id for image in made}


def test_a_reserved_image_gets_properties_that_were_not_known_then(images: Images, tmp_path: Path) -> None:
    content, reserved = tmp_path / "nothing", new(properties={"image_type": "snapshot", "a/b~c": "old"})
    content.touch()
    images.reserve(ctx(is_admin=True), replace(reserved, disk_format=""))
    devices = '[{"source_type": "snapshot", "boot_index": 0, "volume_size": 2, "tag": null}]'
    late = {"block_device_mapping": devices, "bdm_v2": "True", "root_device_name": "/dev/vda", "a/b~c": "new"}
    whole = replace(reserved, properties={**reserved.properties, **late})
    images.upload(ctx(is_admin=True), whole, content)
    made = images.get(ctx(reserved.owner), reserved.id)
    assert (made.status, made.size_bytes, made.properties) == ("active", 0, whole.properties)


def test_an_image_is_deleted_once_and_again(cloud: Companions, images: Images) -> None:
    image_id = add(cloud)
    for _ in range(2):
        images.delete(ctx(is_admin=True), image_id)
    with pytest.raises(ImageNotFound):
        images.get(ctx(is_admin=True), image_id)
    with pytest.raises(ImageUnacceptable):
        images.delete(ctx(is_admin=True), add(cloud, protected=True))


def test_what_the_service_refuses_is_said(images: Images, tmp_path: Path) -> None:
    content = tmp_path / "disk"
    content.write_bytes(CONTENT)
    with pytest.raises(ImageUnacceptable):
        images.upload(ctx(is_admin=True), new(min_disk_gib=-1), content)


def test_a_service_that_is_down_is_said_to_be(cloud: Companions) -> None:
    nobody = open_images(cloud.peer(GlanceSettings, endpoint_override="http://127.0.0.1:1"))
    with pytest.raises(PeerUnavailable, match="no connection"):
        nobody.get(ctx(), "00000000-0000-0000-0000-000000000000")
    no_identity = open_images(cloud.peer(GlanceSettings, auth_url="http://127.0.0.1:1"))
    with pytest.raises(PeerUnavailable):
        no_identity.get(ctx(), "00000000-0000-0000-0000-000000000000")


def _serving(answer: bytes) -> socket.socket:
    """A port whose first connection gets these bytes and is closed."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listening.accept()
        connection.recv(65536)
        connection.sendall(answer)
        connection.close()

    threading.Thread(target=serve, daemon=True).start()
    return listening


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1500000\r\n\r\na bootable",
        b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_a_download_that_breaks_off_leaves_nothing(
    cloud: Companions, images: Images, tmp_path: Path, answer: bytes
) -> None:
    image = images.get(ctx(is_admin=True), add(cloud))
    with _serving(answer) as listening:
        override = f"http://127.0.0.1:{listening.getsockname()[1]}"
        broken = open_images(cloud.peer(GlanceSettings, endpoint_override=override))
        with pytest.raises(PeerUnavailable):
            broken.download(ctx(), image, tmp_path / "disk")
    assert list(tmp_path.iterdir()) == []


def test_a_silent_service_costs_no_more_than_the_deadline(cloud: Companions) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        override = f"http://127.0.0.1:{silent.getsockname()[1]}"
        slow = open_images(cloud.peer(GlanceSettings, endpoint_override=override))
        hurried = replace(ctx(), deadline=Deadline.after(0.3))
        with pytest.raises(PeerUnavailable, match="time"):
            slow.get(hurried, "00000000-0000-0000-0000-000000000000")
