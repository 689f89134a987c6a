"""A whole machine in one process: run inside a network namespace that stands for the machine's own.

    python -m tests.wiring.machine DIRECTORY stop|kill

Prints what a guest reached, and what of ours the machine had then; with `kill` it ends itself as a power cut would.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.real.databases import wait_until
from tests.wiring.conftest import UDHCPC, Lab, started_companion
from tools.companions.network.wiring.namespaces import ProcessNamespace, run
from tools.companions.network.wiring.settings import WiringSettings


def traces() -> dict[str, Any]:
    """What of a companion is in the namespace of this process."""
    links = [link["ifname"] for link in json.loads(run(("ip", "-j", "link", "show")))]
    return {
        "links": [name for name in links if name.startswith("pu")],
        "tables": [line for line in run(("nft", "list", "tables")).splitlines() if "polycell" in line],
        "routes": [line for line in run(("ip", "route")).splitlines() if line.startswith("10.9.")],
        "forwarding": Path("/proc/sys/net/ipv4/ip_forward").read_text().strip(),
    }


def main(directory: Path, ending: str) -> None:
    run(("ip", "link", "set", "lo", "up"))
    world = ProcessNamespace()
    with world.namespace.opened() as fd:
        run(
            ("ip", "link", "add", "out", "type", "veth", "peer", "name", "in", "netns", f"/proc/self/fd/{fd}"),
            fds=(fd,),
        )
    run(("ip", "address", "add", "198.51.100.1/24", "dev", "out"))
    run(("ip", "link", "set", "out", "up"))
    world.namespace.batch((("address", "add", "198.51.100.2/24", "dev", "in"), ("link", "set", "in", "up")))
    (directory / "hypervisors").mkdir(exist_ok=True)
    script = directory / "udhcpc.sh"
    script.write_text(UDHCPC)
    script.chmod(0o755)
    settings = WiringSettings(
        enabled=True, hypervisors=str(directory / "hypervisors"), interval=0.3, name="machine", uplink=True
    )
    lab = Lab(directory, settings, started_companion(directory, settings))
    lab.host()
    guest = lab.started(lab.network())
    lab.allow(guest.port, protocol="icmp", remote_ip_prefix="0.0.0.0/0")
    ping = ("busybox", "ping", "-c", "1", "-W", "1", guest.address)
    wait_until(lambda: subprocess.run(ping, capture_output=True, check=False).returncode == 0, "guest not reached")
    said: dict[str, Any] = {"world": guest.reaches("198.51.100.2"), "during": traces()}
    if ending == "kill":
        sys.stdout.write(f"{json.dumps(said)}\n")
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    lab.close()
    wait_until(lambda: not traces()["links"], "links are left")
    sys.stdout.write(f"{json.dumps(said | {'after': traces()})}\n")
    world.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
