"""The console proxy of one cell, as its files make it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cell_service.config import load
from cell_service.errors import Invalid
from tests.real.databases import free_port
from tools.services.roles import console
from tools.services.shared import Listen, Shared


def part(directory: Path, text: str) -> None:
    """Begin and end a proxy with these files. Raises Invalid."""
    file = directory / "nova.conf"
    file.write_text(f"{text}\n[database]\nconnection = sqlite:///{directory}/cell.sqlite\n")
    made = console.make(load([str(file)]), Shared(), Listen(port=free_port()))
    made.start()
    made.stop(0)


@pytest.mark.parametrize(
    ("text", "warned"),
    [("", ["no [DEFAULT] transport_url"]), ("[DEFAULT]\ntransport_url = memory://consoles", [])],
)
def test_a_proxy_without_its_cells_queue_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, warned: list[str]
) -> None:
    part(tmp_path, text)
    said = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert [line.split(":")[0] for line in said] == warned


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[vnc]\nauth_schemes = vencrypt", "vencrypt_ca_certs is not set"),
        ("[vnc]\nauth_schemes = vencrypt\nvencrypt_ca_certs = /none.pem", "/none.pem cannot be used"),
        ("[vnc]\nauth_schemes = tight", "auth_schemes"),
    ],
)
def test_a_proxy_whose_files_cannot_be_used_does_not_start(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(Invalid, match=reason):
        part(tmp_path, text)
