"""Consoles of a real libvirt whose qemu.conf has TLS for them."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("libvirt", reason="needs libvirt-python")

from cell_service.consoles.config import ConsoleSettings, SerialConsole, Spice, Vnc
from cell_service.consoles.connecting import HostSecurity
from tests.consoles.users import proxied, user
from tests.real.databases import free_ports, wait_until
from tests.real.libvirt_driver import Bench, boot_sector
from tests.real.libvirtd import PrivateLibvirtd, missing
from tests.suites.certificates import Authority
from tests.suites.driver import spec_of

pytestmark = pytest.mark.real

CONFIGURED = """
vnc_tls = 1
vnc_tls_x509_cert_dir = "{directory}"
vnc_tls_x509_verify = 1
spice_tls = 1
spice_tls_x509_cert_dir = "{directory}"
chardev_tls = 1
chardev_tls_x509_cert_dir = "{directory}"
"""


@pytest.fixture
def secured() -> Iterator[tuple[PrivateLibvirtd, HostSecurity]]:
    """A libvirtd with TLS for consoles, and a proxy's certificates for it."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="pct-") as name:
        directory = Path(name, "tls")
        directory.mkdir()
        authority, cert, key = Authority(directory), directory / "client-cert.pem", directory / "client-key.pem"
        authority.issue(directory / "server-cert.pem", directory / "server-key.pem")
        authority.issue(cert, key, "proxy")
        shutil.copy(authority.file, directory / "ca-cert.pem")
        server = PrivateLibvirtd(Path(name), "tls")
        server.start()
        try:
            file = server.host.directory / "etc" / "qemu.conf"
            file.write_text(file.read_text("ascii") + CONFIGURED.format(directory=directory), "ascii")
            server.kill_libvirtd()
            wait_until(server.answers, "libvirtd does not come back")
            yield server, HostSecurity(("vencrypt",), ca=str(authority.file), cert=str(cert), key=str(key))
        finally:
            server.stop()


def test_consoles_of_a_host_with_tls(secured: tuple[PrivateLibvirtd, HostSecurity], tmp_path: Path) -> None:
    server, security = secured
    first, image = free_ports(20), tmp_path / "image"
    image.write_bytes(boot_sector())
    consoles = ConsoleSettings(
        Vnc(server_listen=str(server.host.run)), Spice(enabled=True),
        SerialConsole(enabled=True, port_range=f"{first}:{first + 19}"),
    )  # fmt: skip
    bench = Bench(server, tmp_path)
    driver = bench.driver(replace(bench.settings, consoles=consoles))
    spec = spec_of(image, "raw")
    uuid = spec.instance.uuid
    try:
        driver.spawn(spec)
        serial, spice = driver.remote_console(uuid, "serial"), driver.remote_console(uuid, "spice-direct")
        assert serial.tls_port == serial.port
        assert spice.tls_port is not None
        assert spice.tls_port != spice.port

        async def agreed(with_tls: HostSecurity | None) -> bytes:
            with proxied(driver.remote_console(uuid, "novnc"), "novnc", with_tls) as proxy:
                async with user(proxy) as viewer:
                    await viewer.say(b"RFB 003.008\n")
                    return await viewer.hear(14)

        assert asyncio.run(agreed(security)) == b"RFB 003.008\n\1\1"
        assert asyncio.run(agreed(None))[:13] == b"RFB 003.008\n\0"
    finally:
        bench.close()
