"""What a user and an operator do with real guests, and what is left on the hosts afterwards."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libvirt
import requests

from tests.faults import books
from tests.faults.installation import CELLS, Installation, Unmet
from tools.hypervisors.host import PrivateHost

BOOT_SECONDS = 240.0
"""A guest takes ten seconds where nothing else runs, and here a lot may."""


@dataclass(frozen=True, slots=True)
class Guest:
    """A server whose guest is meant to boot."""

    uuid: str
    name: str
    host: str


class Lab:
    """An installation with private libvirt hosts. `hosts`: one in each cell."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.hosts = [f"{cell}-host1" for cell in CELLS]
        self.key = installation.state / "id_ed25519"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)], check=True)
        self._prepare()

    def close(self) -> None:
        self.installation.close()

    def _prepare(self) -> None:
        public = self.key.with_suffix(".pub").read_text(encoding="ascii")
        self.ask("POST", "/os-keypairs", {"keypair": {"name": "lab", "public_key": public}}, expect=(200, 201))
        groups = self.ask("GET", "/v2.0/security-groups", service="network")["security_groups"]
        mine = next(each for each in groups if each["project_id"] == self.installation.user.project_id)
        for more in ({"protocol": "tcp", "port_range_min": 22, "port_range_max": 22}, {"protocol": "icmp"},
                     {"protocol": "tcp", "port_range_min": 7000, "port_range_max": 7000}):  # fmt: skip
            rule = {"security_group_id": mine["id"], "direction": "ingress", "ethertype": "IPv4", **more}
            self.ask("POST", "/v2.0/security-group-rules", {"security_group_rule": rule}, service="network")
        images = self.ask("GET", "/v2/images", service="image")["images"]
        self.images = {each["name"]: each["id"] for each in images}
        flavors = self.ask("GET", "/flavors")["flavors"]
        self.flavors = {each["name"]: each["id"] for each in flavors}

    # -- a user -----------------------------------------------------------------------------------

    def ask(self, method: str, path: str, body: Any = None, *, service: str = "compute", version: str = "2.96",
            expect: tuple[int, ...] = (200, 201, 202, 204)) -> Any:  # fmt: skip
        """What the service answers, which must be one of the expected statuses. A cell may be unreachable for a moment
        while all its guests boot: the request is sent again then."""

        def answered() -> Any:
            answer = self.installation.user.ask(method, path, body, service=service, version=version)
            again = answer.status_code == 503 and 503 not in expect
            return Unmet(f"{method} {path}: {answer.text}") if again else (answer,)

        (answer,) = self.installation.until(answered, 60)
        assert answer.status_code in expect, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def boot(self, name: str, host: str, *, image: str = "polycell-guest", flavor: str = "m1.micro",
             user_data: bytes | None = None, version: str = "2.96", **fields: Any) -> Guest:  # fmt: skip
        """Accepted, on that host."""
        server: dict[str, Any] = {
            "name": name, "flavorRef": self.flavors[flavor], "imageRef": self.images.get(image, image),
            "networks": "auto", "availability_zone": f"nova:{host}", "key_name": "lab", **fields,
        }  # fmt: skip
        if user_data is not None:
            server["user_data"] = base64.b64encode(user_data).decode()
        made = self.ask("POST", "/servers", {"server": server}, version=version)
        return Guest(made["server"]["id"], name, host)

    def server(self, guest: Guest) -> dict[str, Any]:
        """The server as its cell shows it: one that is too busy to answer for a moment is asked once more."""

        def shown() -> dict[str, Any] | Unmet:
            server: dict[str, Any] = self.ask("GET", f"/servers/{guest.uuid}")["server"]
            return Unmet(f"the cell of {guest.name} is silent") if server["status"] == "UNKNOWN" else server

        found: dict[str, Any] = self.installation.until(shown)
        return found

    def until_status(self, guest: Guest, status: str, seconds: float = BOOT_SECONDS) -> dict[str, Any]:
        """The server once it has that status and no task; fails at once when it goes to ERROR instead."""

        def reached() -> dict[str, Any] | Unmet:
            shown = self.server(guest)
            if status != "ERROR" and shown["status"] == "ERROR":
                raise AssertionError(f"{guest.name} is in ERROR: {shown.get('fault')}")
            settled = shown["status"] == status and shown["OS-EXT-STS:task_state"] is None
            return shown if settled else Unmet(f"{shown['status']} {shown['OS-EXT-STS:task_state']}")

        found: dict[str, Any] = self.installation.until(reached, seconds)
        return found

    def address(self, guest: Guest) -> str:
        (entries,) = self.server(guest)["addresses"].values()
        return str(entries[0]["addr"])

    def console(self, guest: Guest) -> str:
        body = {"os-getConsoleOutput": {}}
        return str(self.ask("POST", f"/servers/{guest.uuid}/action", body)["output"])

    def act(self, guest: Guest, action: str, argument: Any = None) -> None:
        self.ask("POST", f"/servers/{guest.uuid}/action", {action: argument})

    def until_said(self, guest: Guest, pattern: str, times: int = 1) -> re.Match[str]:
        """The last of so many matches in the guest's console log."""

        def said() -> re.Match[str] | Unmet:
            found = list(re.finditer(pattern, output := self.console(guest)))
            return found[-1] if len(found) >= times else Unmet(f"{guest.name} said: {output[-2000:]}")

        match: re.Match[str] = self.installation.until(said, BOOT_SECONDS)
        return match

    def until_done(self, guest: Guest, action: str) -> str:
        """The result of the server's newest action, which is that one, when it has ended: its events' details if it
        failed, else nothing."""

        def ended() -> tuple[str] | Unmet:
            newest = self.ask("GET", f"/servers/{guest.uuid}/os-instance-actions")["instanceActions"][0]
            path = f"/servers/{guest.uuid}/os-instance-actions/{newest['request_id']}"
            (event,) = self.ask("GET", path)["instanceAction"]["events"] or ({"result": None},)
            if newest["action"] != action or event["result"] is None:
                return Unmet(f"{newest['action']}: {event}")
            return ("" if event["result"] == "Success" else str(event["details"]),)

        (result,) = self.installation.until(ended, BOOT_SECONDS)
        return str(result)

    def until_ready(self, guest: Guest, times: int = 1) -> str:
        """The address that the guest says it has, once it is active."""
        self.until_status(guest, "ACTIVE")
        return self.until_said(guest, rf"POLYCELL-GUEST-READY {guest.name}\S* (\S+)", times).group(1)

    # -- in the guests' network -------------------------------------------------------------------

    def inside(self, *words: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command in the network's own namespace."""
        command = ["nsenter", f"--net=/proc/{self.dnsmasq()}/ns/net", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)

    def dnsmasq(self) -> int:
        """The DHCP server of the only network."""

        def found() -> int | Unmet:
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    words = path.read_text(encoding="utf-8", errors="replace")
                except OSError:
                    continue
                if words.split("\0")[0].endswith("dnsmasq") and str(self.installation.state) in words:
                    return int(path.parent.name)
            return Unmet("no dnsmasq of ours")

        return int(self.installation.until(found))

    def ssh(self, guest: Guest, command: str) -> str:
        """What the command prints in the guest."""
        words = ("ssh", "-i", str(self.key), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
                 "-o", "ConnectTimeout=10", "-o", "BatchMode=yes",
                 "-o", "ServerAliveInterval=5", f"root@{self.address(guest)}", command)  # fmt: skip

        def answered() -> subprocess.CompletedProcess[str] | Unmet:
            try:
                done = self.inside(*words)
            except subprocess.TimeoutExpired as error:
                return Unmet(f"{error}: {error.stderr!r}")
            return done if done.returncode != 255 else Unmet(done.stderr)

        done: subprocess.CompletedProcess[str] = self.installation.until(answered, BOOT_SECONDS)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def count(self, guest: Guest) -> int:
        """The counter that lives in the guest's memory."""

        def read() -> int | Unmet:
            url = f"http://{self.address(guest)}:7000/count"
            read_url = f"from urllib.request import urlopen; print(urlopen({url!r}, timeout=10).read().decode())"
            done = self.inside(sys.executable, "-c", read_url)
            return int(done.stdout) if done.stdout.strip().isdigit() else Unmet(done.stderr)

        return int(self.installation.until(read))

    # -- an operator ------------------------------------------------------------------------------

    def private(self, host: str) -> PrivateHost:
        return PrivateHost(host, self.installation.state)

    def domains(self, host: str) -> dict[str, bool]:
        """Uuid → whether it runs."""
        connection = self.installation.until(lambda: _opened(self.private(host).uri))
        try:
            running = {each.UUIDString() for each in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)}
            return {each.UUIDString(): each.UUIDString() in running for each in connection.listAllDomains()}
        finally:
            connection.close()

    def libvirtd(self, host: str) -> int:
        """Its process, as seen from outside."""
        init = self.private(host).pid()
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if path.read_text(errors="replace").startswith("libvirtd\0") and os.path.samefile(
                    f"/proc/{init}/ns/pid", path.with_name("ns") / "pid"
                ):
                    return int(path.parent.name)
            except OSError:
                continue
        raise AssertionError(f"no libvirtd runs on {host}")

    def taps(self, host: str) -> list[str]:
        words = ["nsenter", f"--net=/proc/{self.private(host).pid()}/ns/net", "ip", "-j", "link"]
        links = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
        return [link["ifname"] for link in links if link["ifname"].startswith("tap")]

    def directories(self, host: str) -> list[str]:
        cell = host.split("-")[0]
        found = (self.installation.state / "hosts" / cell / host).glob("*-*-*-*-*")
        return [path.name for path in found]

    def demand_nothing(self) -> None:
        """No server, and nothing of one, anywhere."""
        self.installation.until(lambda: not (left := self._left()) or Unmet(left))
        self.installation.until(lambda: not (left := books.living(self.installation)) or Unmet(list(left)))
        self.installation.until(lambda: not (left := books.allocations(self.installation)) or Unmet(left))
        assert {books.quota_in_use(self.installation, name) for name in ("instances", "cores", "ram")} == {0}

    def left_on(self, host: str) -> dict[str, list[str]]:
        """What a host has of guests, by kind."""
        found = {"domains": list(self.domains(host)), "taps": self.taps(host), "files": self.directories(host)}
        return {kind: names for kind, names in found.items() if names}

    def _left(self) -> dict[str, Any]:
        left = {host: what for host in self.hosts if (what := self.left_on(host))}
        compute = [port["id"] for port in self.installation.user.ports() if port["device_owner"].startswith("compute")]
        return left | ({"ports": compute} if compute else {})

    def upload(self, name: str, content: bytes, disk_format: str, **fields: Any) -> str:
        """A new image with that content."""
        record = {"name": name, "disk_format": disk_format, "container_format": "bare", **fields}
        made = self.ask("POST", "/v2/images", record, service="image")
        user = self.installation.user
        url = f"{self.installation.document['endpoints']['image']}/v2/images/{made['id']}/file"
        headers = {"X-Auth-Token": user.token, "Content-Type": "application/octet-stream"}
        answer = requests.put(url, data=content, headers=headers, timeout=60)
        assert answer.status_code == 204, answer.text
        return str(made["id"])


def _opened(uri: str) -> Any:
    try:
        return libvirt.open(uri)
    except libvirt.libvirtError as error:
        return Unmet(error)
