"""The guest boots by plain QEMU: as kernel and ramdisk, from its disk by BIOS and by UEFI; and says what it found."""

from __future__ import annotations

import base64
import contextlib
import json
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.real.databases import free_port, wait_until
from tools.guest.image import GuestImage

OVMF = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
MAC = "52:54:00:12:34:56"
UUID = "b5b4b7a0-3f4e-4a7c-9d3e-0d6b6a6a0001"
BOOT_SECONDS = 180
USER_DATA = "#!/bin/sh\necho said-by-user-data $(hostname)\nexit 3\n"
META = {"uuid": UUID, "hostname": "web-1.novalocal", "name": "web 1", "meta": {"role": 'the "front"'},
        "public_keys": {"mine": "ssh-ed25519 AAAA me@there\n"}}  # fmt: skip
STATIC = {
    "links": [{"id": "tap0", "vif_id": "v", "type": "bridge", "mtu": 1400, "ethernet_mac_address": MAC}],
    "networks": [
        {"id": "network0", "link": "tap0", "type": "ipv4", "ip_address": "10.0.2.77", "netmask": "255.255.255.0",
         "routes": [{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.0.2.2"}]},
    ],
    "services": [{"type": "dns", "address": "10.0.2.3"}],
}  # fmt: skip
FIRST, SECOND = "f1rst: \\ 'pass\" $HOME", "second: \\ 'pass\" $HOME"
"""Passwords with what shells and awk might read in them."""
pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]


@dataclass
class Booted:
    """What the console says, so far or until the guest is ready."""

    process: subprocess.Popen[bytes]
    log: Path

    def ready(self) -> list[str]:
        wait_until(lambda: "POLYCELL-GUEST-READY" in self.text() or self.process.poll() is not None,
                   f"not ready: {self.text()}", BOOT_SECONDS)  # fmt: skip
        wait_until(lambda: any(line.startswith("POLYCELL-GUEST-READY") for line in self.lines()), self.text(), 10)
        return self.lines()

    def text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""

    def lines(self) -> list[str]:
        text = self.text()
        return [line[max(line.find("POLYCELL-GUEST"), 0) :] for line in text[: text.rfind("\n")].splitlines()]

    def facts(self) -> dict[str, str]:
        said = (line.removeprefix("POLYCELL-GUEST ").partition("=") for line in self.ready() if "GUEST " in line)
        return {name: value for name, _, value in said}


@contextlib.contextmanager
def booted(directory: Path, *arguments: str, network: str = "") -> Iterator[Booted]:
    if not (program := shutil.which("qemu-system-x86_64")):
        pytest.skip("qemu-system-x86 is not installed")
    log = directory / "console.log"
    # restrict: the guest must not find another cloud's metadata service through this machine.
    command = [program, "-accel", "tcg", "-nodefaults", "-display", "none", "-no-reboot", "-serial", f"file:{log}",
               "-netdev", f"user,id=net,restrict=on{network}", "-device", f"virtio-net-pci,netdev=net,mac={MAC}",
               "-device", "virtio-rng-pci", *arguments]  # fmt: skip
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        yield Booted(process, log)
    finally:
        process.kill()
        process.wait()


def direct(guest: GuestImage) -> list[str]:
    return ["-m", "128", "-kernel", str(guest.kernel), "-initrd", str(guest.ramdisk), "-append", "console=ttyS0 quiet"]


def drive_tree(directory: Path, network: dict[str, Any] | None, **more: Any) -> Path:
    latest = directory / "tree" / "openstack" / "latest"
    latest.mkdir(parents=True)
    (latest / "meta_data.json").write_text(json.dumps(META | more), encoding="utf-8")
    (latest / "user_data").write_text(USER_DATA, encoding="utf-8")
    if network:
        (latest / "network_data.json").write_text(json.dumps(network), encoding="utf-8")
    return directory / "tree"


def run(*command: str) -> None:
    if not shutil.which(command[0], path="/usr/sbin:/sbin:/usr/bin:/bin"):
        pytest.skip(f"{command[0]} is not installed")
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def test_kernel_and_ramdisk_with_an_iso_drive_and_static_addresses(guest: GuestImage, tmp_path: Path) -> None:
    iso, port = tmp_path / "drive.iso", free_port()
    run("genisoimage", "-R", "-J", "-V", "config-2", "-o", str(iso), str(drive_tree(tmp_path, STATIC)))
    count = f",hostfwd=tcp:127.0.0.1:{port}-10.0.2.77:7000"
    with booted(tmp_path, *direct(guest), "-cdrom", str(iso), network=count) as machine:
        facts = machine.facts()
        assert "POLYCELL-GUEST-READY web-1 10.0.2.77" in machine.lines()
        assert "said-by-user-data web-1" in machine.lines()
        url = f"http://127.0.0.1:{port}/count"
        first = int(requests.get(url, timeout=30).text)
        wait_until(lambda: int(requests.get(url, timeout=30).text) > first, "the counter stands still")
    assert facts | {"kernel": guest.kernel_version} == facts
    expected = {
        "firmware": "bios",
        "config_drive": "yes",
        "metadata": "no",
        "configured.eth0": "static",
        "address.eth0": "10.0.2.77/24",
        "mac.eth0": MAC,
        "instance": UUID,
        "meta.role": 'the "front"',
        "ssh_key": "yes",
        "user_data": "yes",
        "user_data_exit": "3",
    }
    assert {name: facts.get(name) for name in expected} == expected


def test_disk_by_bios_takes_dhcp_and_the_metadata_service(guest: GuestImage, tmp_path: Path) -> None:
    disk = ["-m", "128", "-drive", f"file={guest.disk},if=virtio,snapshot=on"]
    reach = metadata_service(tmp_path) + ",net=169.254.0.0/16,host=169.254.0.2,dhcpstart=169.254.0.15"
    with booted(tmp_path, *disk, network=reach) as machine:
        facts = machine.facts()
        assert "said-by-user-data web-1" in machine.lines()
        assert "POLYCELL-GUEST-READY web-1 169.254.0.15" in machine.lines()
    expected = {"firmware": "bios", "config_drive": "no", "metadata": "yes", "configured.eth0": "dhcp",
                "instance": UUID, "ssh_key": "yes", "user_data_exit": "3"}  # fmt: skip
    assert {name: facts.get(name) for name in expected} == expected


def test_disk_by_uefi_on_q35_with_a_fat_drive_and_power_button(guest: GuestImage, tmp_path: Path) -> None:
    if not OVMF.is_file():
        pytest.skip("ovmf is not installed")
    fat, monitor = tmp_path / "drive.fat", tmp_path / "monitor"
    run("truncate", "-s", "64M", str(fat))
    run("mkfs.vfat", "-n", "config-2", str(fat))
    run("mcopy", "-s", "-i", str(fat), str(drive_tree(tmp_path, None) / "openstack"), "::")
    variables = tmp_path / "vars.fd"
    shutil.copy(OVMF.with_name("OVMF_VARS_4M.fd"), variables)
    flash = [f"if=pflash,format=raw,readonly=on,file={OVMF}", f"if=pflash,format=raw,file={variables}"]
    disks = [f"file={guest.disk},if=virtio,snapshot=on", f"file={fat},if=virtio,format=raw,readonly=on"]
    drives = [word for each in (*flash, *disks) for word in ("-drive", each)]
    agent = ["-device", "virtio-serial-pci", "-chardev", f"socket,id=qga,path={tmp_path}/qga,server=on,wait=off",
             "-device", "virtserialport,chardev=qga,name=org.qemu.guest_agent.0"]  # fmt: skip
    control = ["-monitor", f"unix:{monitor},server=on,wait=off"]
    with booted(tmp_path, "-machine", "q35", "-m", "256", *drives, *agent, *control) as machine:
        facts = machine.facts()
        wait_until(lambda: goes_off(machine, monitor), "the power button does nothing", BOOT_SECONDS)
        assert "POLYCELL-GUEST power=off" in machine.text()
    expected = {"firmware": "uefi", "config_drive": "yes", "config_drive_device": "vdb vfat", "agent": "yes",
                "configured.eth0": "dhcp", "instance": UUID}  # fmt: skip
    assert {name: facts.get(name) for name in expected} == expected


class Agent:
    """The guest agent, over the socket that QEMU has for its channel."""

    def __init__(self, path: Path) -> None:
        self._line = socket.socket(socket.AF_UNIX)
        self._line.settimeout(BOOT_SECONDS)
        self._line.connect(str(path))
        self._answers = self._line.makefile("rb")

    def answer(self, command: str, **arguments: Any) -> dict[str, Any]:
        self._line.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        answer: dict[str, Any] = json.loads(self._answers.readline())
        return answer

    def do(self, command: str, **arguments: Any) -> Any:
        answer = self.answer(command, **arguments)
        assert "return" in answer, answer
        return answer["return"]

    def run(self, script: str) -> str:
        """What the shell script prints in the guest."""
        started = {"path": "/bin/sh", "arg": ["-c", script], "capture-output": True}
        pid, ended = self.do("guest-exec", **started)["pid"], {}

        def over() -> bool:
            ended.update(self.do("guest-exec-status", pid=pid))
            return bool(ended["exited"])

        wait_until(over, script, BOOT_SECONDS)
        assert ended["exitcode"] == 0, ended
        return base64.b64decode(ended.get("out-data", "")).decode()

    def close(self) -> None:
        self._answers.close()
        self._line.close()


def is_password(agent: Agent, password: str) -> bool:
    """Whether it is root's."""
    stored = agent.run("cat /etc/shadow").split(":")[1]
    made = agent.run(f"mkpasswd -m sha512 -S {stored.split('$')[2]} {shlex.quote(password)}")
    return stored.startswith("$6$") and made.strip() == stored


FILES = {"/etc/deep/er/one": b"one\n\0binary", "/two": b"two\n"}


@pytest.fixture
def with_agent(guest: GuestImage, tmp_path: Path) -> Iterator[tuple[Booted, Agent]]:
    """A guest with a drive that has files and a password, a blank disk, and its agent."""
    files = [{"content_path": f"/content/{number:04d}", "path": path} for number, path in enumerate(FILES)]
    tree, iso, disk = drive_tree(tmp_path, None, files=files, admin_pass=FIRST), tmp_path / "iso", tmp_path / "disk"
    (tree / "openstack" / "content").mkdir()
    for number, content in enumerate(FILES.values()):
        (tree / "openstack" / "content" / f"{number:04d}").write_bytes(content)
    run("genisoimage", "-R", "-J", "-V", "config-2", "-o", str(iso), str(tree))
    run("truncate", "-s", "16M", str(disk))
    devices = ["-device", "virtio-serial-pci", "-chardev", f"socket,id=qga,path={tmp_path}/qga,server=on,wait=off",
               "-device", "virtserialport,chardev=qga,name=org.qemu.guest_agent.0",
               "-drive", f"file={disk},if=virtio,format=raw"]  # fmt: skip
    with booted(tmp_path, *direct(guest), "-cdrom", str(iso), *devices) as machine:
        machine.ready()
        with closing(Agent(tmp_path / "qga")) as agent:
            yield machine, agent


def test_files_and_passwords_of_the_drive_and_the_work_of_the_agent(with_agent: tuple[Booted, Agent]) -> None:
    machine, agent = with_agent
    facts = machine.facts()
    assert (facts["agent"], facts["admin_pass"], facts["file"]) == ("yes", "yes", "/two")
    for path, content in FILES.items():
        assert agent.run(f"cat {path}") == content.decode()
    assert is_password(agent, FIRST)
    encoded = base64.b64encode(SECOND.encode()).decode()
    agent.do("guest-set-user-password", username="root", password=encoded, crypted=False)
    assert is_password(agent, SECOND)
    assert not is_password(agent, FIRST)
    assert "error" in agent.answer("guest-set-user-password", username="none", password=encoded, crypted=False)
    assert is_password(agent, SECOND)

    agent.run("mke2fs /dev/vda && mkdir /mnt/disk && mount -t ext4 /dev/vda /mnt/disk")
    assert agent.do("guest-fsfreeze-freeze") == 1
    assert agent.do("guest-fsfreeze-status") == "frozen"
    assert agent.do("guest-fsfreeze-thaw") == 1
    assert agent.run("touch /mnt/disk/after && ls /mnt/disk").split() == ["after", "lost+found"]
    said = [line for line in machine.lines() if "fsfreeze" in line]
    assert said == ["POLYCELL-GUEST fsfreeze=freeze", "POLYCELL-GUEST fsfreeze=thaw"]


def goes_off(machine: Booted, monitor: Path) -> bool:
    """Press the power button; whether the machine is off soon after. A guest may not listen to it yet."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(60)
        line.connect(str(monitor))
        line.sendall(b"system_powerdown\n")
        said = b""
        while said.count(b"(qemu)") < 2 and (more := line.recv(1000)):  # before and after the command
            said += more
        try:
            machine.process.wait(5)
        except subprocess.TimeoutExpired:
            return False
        return True


METADATA = {
    "/openstack/latest/meta_data.json": json.dumps(META | {"public_keys": {}}),
    "/openstack/latest/user_data": USER_DATA,
    "/latest/meta-data/public-keys/": "0=mine",
    "/latest/meta-data/public-keys/0/openssh-key": "ssh-ed25519 AAAA me@there",
}
ANSWER = """
import json, pathlib, sys
here = pathlib.Path(sys.argv[0]).parent
path = sys.stdin.readline().split()[1]
while sys.stdin.readline().strip():
    pass
text = json.loads((here / "tree.json").read_text()).get(path, "")
status = "200 OK" if text else "404 Not Found"
with (here / "asked").open("a+") as asked:
    if not asked.tell():
        status = "503 Not Yet"
    asked.write(path + "\\n")
sys.stdout.write(f"HTTP/1.0 {status}\\r\\nContent-Length: {len(text)}\\r\\n\\r\\n{text}")
"""


def metadata_service(directory: Path) -> str:
    """As little of it as the guest asks for: QEMU runs the program for each connection.

    Its first answer is a 503, so the guest has to ask again.
    """
    (directory / "tree.json").write_text(json.dumps(METADATA), encoding="utf-8")
    program = directory / "answer.py"
    program.write_text(ANSWER, encoding="utf-8")
    return f",guestfwd=tcp:169.254.169.254:80-cmd:{sys.executable} {program}"
