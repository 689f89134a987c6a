"""Passwords, files and frozen file systems, seen from inside real guests; and guests whose agents stop or die."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tests.faults.installation import Unmet
from tests.lab.lab import Guest, Lab
from tests.lab.test_images import until_active

pytestmark = [pytest.mark.real, pytest.mark.faults, pytest.mark.timeout(1500)]

FIRST, SECOND = "Gr8-First", "Gr8 Second's"
POSTED = base64.b64encode(b"encrypted by the guest").decode()
PASSWORD_URL = "http://169.254.169.254/openstack/latest/password"
FILE, CONTENT = "/etc/app/settings", b"injected\nfile\n"


def lets_in(cloud: Lab, guest: Guest, password: str, directory: Path) -> bool:
    """Whether root comes in by ssh with the password alone."""
    program = directory / "askpass"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{password}\nEND\n", encoding="utf-8")
    program.chmod(0o700)
    words = ("env", f"SSH_ASKPASS={program}", "SSH_ASKPASS_REQUIRE=force", "ssh", "-o", "StrictHostKeyChecking=no",
             "-o", "UserKnownHostsFile=/dev/null", "-o", "PubkeyAuthentication=no", "-o", "ConnectTimeout=30",
             "-o", "NumberOfPasswordPrompts=1", f"root@{cloud.address(guest)}", "echo I am in")  # fmt: skip

    def answered() -> tuple[bool] | Unmet:
        done = cloud.inside(*words, seconds=120)
        refused = "Permission denied" in done.stderr
        return (not refused,) if refused or "I am in" in done.stdout else Unmet(done.stderr)

    (let_in,) = cloud.installation.until(answered, 240)
    return bool(let_in)


def test_passwords_and_files_reach_the_guest_and_its_own_password_the_user(cloud: Lab, tmp_path: Path) -> None:
    files = [{"path": FILE, "contents": base64.b64encode(CONTENT).decode()}]
    guest = cloud.boot("inside", cloud.hosts[0], version="2.56", config_drive=True, adminPass=FIRST, personality=files)
    cloud.until_ready(guest)
    cloud.until_said(guest, r"POLYCELL-GUEST admin_pass=yes")
    assert cloud.ssh(guest, f"cat {FILE}").encode() == CONTENT
    assert lets_in(cloud, guest, FIRST, tmp_path)

    cloud.act(guest, "changePassword", {"adminPass": SECOND})
    assert cloud.until_done(guest, "changePassword") == ""
    assert lets_in(cloud, guest, SECOND, tmp_path)
    assert not lets_in(cloud, guest, FIRST, tmp_path)

    path = f"/servers/{guest.uuid}/os-server-password"
    assert cloud.ask("GET", path)["password"] == ""
    post = f"timeout 30 wget -q -O - --post-data={POSTED} {PASSWORD_URL}"
    cloud.ssh(guest, post)
    assert cloud.ask("GET", path)["password"] == POSTED
    assert cloud.ssh(guest, f"timeout 30 wget -q -O - {PASSWORD_URL}") == POSTED
    assert cloud.ssh(guest, f"{post} || echo refused").strip() == "refused"
    cloud.ask("DELETE", path)
    assert cloud.ask("GET", path)["password"] == ""
    cloud.ssh(guest, post)
    assert cloud.ask("GET", path)["password"] == POSTED


MAKE_DISK = """
echo 0 >/proc/sys/vm/dirty_writeback_centisecs
printf 'n\\np\\n2\\n200000\\n300000\\nw\\n' | fdisk /dev/vda >/dev/null 2>&1
mke2fs /dev/vda2 >/dev/null && mkdir -p /mnt/disk && mount -t ext4 /dev/vda2 /mnt/disk
"""
"""A file system on the root disk; nothing of it is written to the disk before something says so."""


def image_of(cloud: Lab, guest: Guest, **metadata: str) -> str:
    body = {"createImage": {"name": "copy", "metadata": metadata}}
    return str(cloud.ask("POST", f"/servers/{guest.uuid}/action", body)["image_id"])


def agent_of(cloud: Lab, guest: Guest, signal: str) -> None:
    cloud.ssh(guest, f"kill -{signal} $(cat /run/qemu-ga.pid)")


def test_a_copy_has_what_was_not_yet_written_and_agents_that_stop_or_die_cost_a_fault(cloud: Lab) -> None:
    guest = cloud.boot("origin", cloud.hosts[0])
    cloud.until_ready(guest)
    cloud.ssh(guest, f"{MAKE_DISK} printf unwritten >/mnt/disk/mark")
    image = image_of(cloud, guest, os_require_quiesce="yes")
    until_active(cloud, image)
    cloud.until_said(guest, r"POLYCELL-GUEST fsfreeze=freeze\s+POLYCELL-GUEST fsfreeze=thaw")
    assert cloud.ssh(guest, "touch /mnt/disk/after && cat /mnt/disk/mark") == "unwritten"
    cloud.ask("DELETE", f"/servers/{guest.uuid}")

    strict = cloud.boot("strict", cloud.hosts[0], image=image)
    cloud.until_ready(strict)
    read = "mkdir -p /mnt/disk && mount -t ext4 /dev/vda2 /mnt/disk && cat /mnt/disk/mark"
    assert cloud.ssh(strict, read) == "unwritten"

    for signal, reason in (("STOP", "did not answer in time"), ("KILL", "does not run in the guest")):
        agent_of(cloud, strict, signal)
        cloud.act(strict, "changePassword", {"adminPass": SECOND})
        assert reason in cloud.until_done(strict, "changePassword")
        assert SECOND not in cloud.until_done(strict, "changePassword")
        never = image_of(cloud, strict)
        assert reason in cloud.until_done(strict, "createImage")
        cloud.ask("GET", f"/v2/images/{never}", service="image", expect=(404,))
        cloud.until_status(strict, "ACTIVE")
        assert cloud.ssh(strict, "timeout 20 touch /mnt/disk/after && echo thawed").strip() == "thawed"
        if signal == "STOP":
            agent_of(cloud, strict, "CONT")
            cloud.act(strict, "changePassword", {"adminPass": SECOND})
            assert cloud.until_done(strict, "changePassword") == ""
    cloud.ask("DELETE", f"/v2/images/{image}", service="image")


SLOW_HOOK = """cat >/usr/share/guest/fsfreeze-hook <<'END'
#!/bin/busybox sh
echo "POLYCELL-GUEST fsfreeze=$1" >"$(cat /run/console)"
[ "$1" = thaw ] || sleep 15
END
"""


def test_a_guest_is_thawed_when_the_agent_of_its_host_was_killed_meanwhile(cloud: Lab) -> None:
    guest = cloud.boot("frozen", cloud.hosts[0])
    cloud.until_ready(guest)
    cloud.ssh(guest, MAKE_DISK + SLOW_HOOK)
    image = image_of(cloud, guest)
    cloud.until_said(guest, r"POLYCELL-GUEST fsfreeze=freeze")
    cloud.installation.kill("compute", host=guest.host)
    until_active(cloud, image)
    cloud.until_status(guest, "ACTIVE")
    mark = cloud.installation.state / "hosts" / guest.host.split("-")[0] / guest.host / guest.uuid / "frozen"
    cloud.installation.until(lambda: not mark.exists() or Unmet("the guest is marked as frozen"), 240)
    assert cloud.ssh(guest, "timeout 60 touch /mnt/disk/after && echo thawed").strip() == "thawed"
    last = cloud.until_said(guest, r"POLYCELL-GUEST fsfreeze=(\w+)(?![\s\S]*fsfreeze)")
    assert last.group(1) == "thaw"
    cloud.ask("DELETE", f"/v2/images/{image}", service="image")


BY_AGENT = """kill $(pidof acpid); cat >/sbin/shutdown <<'END' && chmod 755 /sbin/shutdown
#!/bin/busybox sh
echo "POLYCELL-GUEST power=agent" >"$(cat /run/console)"
poweroff -f
END
"""


def test_a_guest_that_knows_no_power_button_is_stopped_by_its_agent(cloud: Lab) -> None:
    guest = cloud.boot("deaf", cloud.hosts[0])
    cloud.until_ready(guest)
    cloud.ssh(guest, BY_AGENT)
    cloud.act(guest, "os-stop", None)
    cloud.until_status(guest, "SHUTOFF")
    cloud.until_said(guest, r"POLYCELL-GUEST power=agent")
