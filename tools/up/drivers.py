"""Which hypervisors a cloud on this machine can have: decided by checks, and by trying what checks may miss."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cell_service.errors import Invalid

BRIDGED, USER, RECORDS = "bridged", "user", "records"
GUEST_PROGRAMS = ("qemu-system-x86_64", "qemu-img", "genisoimage")
HOST_PROGRAMS = ("libvirtd", "unshare", "setpriv", "nsenter", "ip", "dnsmasq", "iptables-restore", "ebtables", "nft")
LIBVIRT_USER = "libvirt-qemu"
_TRIAL = ("unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "true")


@dataclass(frozen=True, slots=True)
class Choice:
    """`networking`: bridged (real packets between guests), user (a guest reaches out, but can't be reached) or records
    (addresses are given out, no packet moves). `reason`: why it is not more."""

    driver: str
    networking: str
    reason: str = ""
    libvirt_uri: str = ""
    kvm: bool = False

    @property
    def is_private(self) -> bool:
        """Whether each host is a libvirtd of its own, started by the launcher."""
        return self.driver == "libvirt" and not self.libvirt_uri


SIMULATED = Choice("simulated", RECORDS)


def choose(requested: str, libvirt_uri: str, memory: Path) -> Choice:
    """Resolve `--driver` and `--libvirt-uri` for this machine; findings that took long are kept in `memory`. Raises
    Invalid for a driver that can't be had."""
    if requested not in ("auto", "simulated", "libvirt"):
        raise Invalid(reason=f"--driver {requested!r} is neither auto, simulated nor libvirt")
    if libvirt_uri and not urlsplit(libvirt_uri).scheme.startswith("qemu"):
        raise Invalid(reason=f"--libvirt-uri {libvirt_uri!r} is not like qemu:///system")
    if requested == "simulated":
        return SIMULATED
    lacks = _missing(private=not libvirt_uri)
    if not lacks:
        return _libvirt(libvirt_uri, memory)
    if requested == "libvirt":
        raise Invalid(reason=f"--driver libvirt: {lacks}")
    return Choice("simulated", RECORDS, reason=lacks)


def _libvirt(uri: str, memory: Path) -> Choice:
    from compute_host.virt.libvirt.probe import works

    kvm = works("kvm", memory / "hypervisor-probe.json")
    if uri:
        return Choice("libvirt", USER, "hosts share a libvirt that is not ours to wire", uri, kvm)
    return Choice("libvirt", BRIDGED, kvm=kvm)


def _missing(*, private: bool) -> str:
    """The parts that are missing for real guests, in words; empty when nothing is."""
    if private and os.geteuid() != 0:
        return "private hosts need root (or name a libvirt that you may use with --libvirt-uri)"
    if importlib.util.find_spec("libvirt") is None:
        return "the Python package libvirt-python is not installed"
    wanted = GUEST_PROGRAMS + (HOST_PROGRAMS if private else ())
    absent = [name for name in wanted if shutil.which(name, path=_PATH) is None]
    if absent:
        return f"these programs are missing: {', '.join(absent)}"
    if private and not _is_user(LIBVIRT_USER):
        return f"the user {LIBVIRT_USER}, which libvirtd needs, does not exist"
    if private:
        trial = subprocess.run(_TRIAL, capture_output=True, text=True, timeout=20, check=False)
        if trial.returncode:
            return f"namespaces can't be made here: {trial.stderr.strip()[:100]}"
    return ""


def _is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
