"""The devices by which a guest's consoles are reached from outside."""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element

from compute_host.virt.libvirt.domain.values import Consoles, Listen
from compute_host.virt.libvirt.domain.xml import add


def first_port(parts: Element, log: Path, console: Listen | None) -> None:
    """The first serial port, with all that the guest prints on it in the log; `console`: where it is also reached."""
    if console is None:
        port = add(parts, "serial", type="file")
        add(port, "source", path=str(log), append="on")
    else:
        port = add(parts, "serial", type="unix" if console.socket else "tcp")
        if console.socket:
            add(port, "source", mode="bind", path=console.socket)
        else:
            add(port, "source", mode="bind", host=console.address, service=str(console.port))
            add(port, "protocol", type="raw")
        add(port, "log", file=str(log), append="on")
    add(port, "target", port="0")


def screens(parts: Element, consoles: Consoles) -> None:
    """The guest's screen, by VNC and by SPICE."""
    for kind, console in (("vnc", consoles.vnc), ("spice", consoles.spice)):
        if console is None:
            continue
        made = add(parts, "graphics", type=kind)
        if console.socket:
            add(made, "listen", type="socket", socket=console.socket)
        else:
            made.set("port", "-1")
            made.set("autoport", "yes")
            add(made, "listen", type="address", address=console.address)
