"""Network interfaces, by the VIF types of their ports."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from cell_service.errors import DriverError
from cell_service.model.hardware import Hardware
from cell_service.model.instance import Vif
from compute_host.virt.driver import GuestSpec
from compute_host.virt.libvirt.domain import limits
from compute_host.virt.libvirt.domain.demands import of_guest
from compute_host.virt.libvirt.domain.values import Choices, tap_name
from compute_host.virt.libvirt.domain.xml import add

MODELS = frozenset({"virtio", "e1000", "e1000e", "rtl8139", "ne2k_pci", "pcnet", "vmxnet3"})
MOST_QUEUES = 256
"""Of a tap device, in Linux since 4.0."""
_SHARING, _DIRECT = "vhostuser", "macvtap"
_MACVTAP_MODES = frozenset({"bridge", "vepa", "private", "passthrough"})


def interface(spec: GuestSpec, vif: Vif, choices: Choices) -> str:
    """The XML of a network interface for the port. Raises DriverError for what is not supported."""
    parts = Element("devices")
    card(parts, vif, of_guest(spec), choices)
    return ElementTree.tostring(parts[0], encoding="unicode")


def card(parts: Element, vif: Vif, wanted: Hardware, choices: Choices) -> None:
    """Raises DriverError for what is not supported."""
    model = vif.details.get("vif_model") or wanted.vif_model or "virtio"
    if model not in MODELS:
        raise DriverError(reason=f"A network card of model {model} cannot be had.")
    made = _plugged(parts, vif, wanted, choices)
    add(made, "mac", address=vif.mac)
    if not choices.user_networking:
        if vif.vif_type != _SHARING:
            add(made, "target", dev=tap_name(vif.port_id))
        if vif.mtu and vif.vif_type not in (_DIRECT, _SHARING):  # libvirt sets it for taps only
            add(made, "mtu", size=str(vif.mtu))
        limits.of_interface(made, wanted.limits)
    add(made, "model", type=model)
    if model == "virtio":
        _driver(made, wanted, choices)
    add(made, "rom", enabled="no")


def shares_memory(vifs: Iterable[Vif]) -> bool:
    """Whether a port's other end reads and writes the guest's memory."""
    return any(vif.vif_type == _SHARING for vif in vifs)


def _plugged(parts: Element, vif: Vif, wanted: Hardware, choices: Choices) -> Element:
    if choices.user_networking:
        return add(parts, "interface", type="user")
    plug = _PLUGS.get(vif.vif_type)
    if plug is None:
        raise DriverError(reason=f"Port {vif.port_id} is of VIF type {vif.vif_type or 'none'}, which is not supported.")
    if vif.vif_type == _SHARING and wanted.limits.of_network:
        raise DriverError(reason=f"Port {vif.port_id} is of VIF type {_SHARING}, whose bandwidth cannot be limited.")
    return plug(parts, vif)


def _bridge(parts: Element, vif: Vif) -> Element:
    made = add(parts, "interface", type="bridge")
    add(made, "source", bridge=_detail(vif, "bridge_name", "bridge"))
    return made


def _ovs(parts: Element, vif: Vif) -> Element:
    if vif.details.get("ovs_hybrid_plug"):
        raise DriverError(reason=f"Port {vif.port_id} asks for ovs_hybrid_plug, which is not supported.")
    made = add(parts, "interface", type="bridge")
    add(made, "source", bridge=str(vif.details.get("bridge_name") or "br-int"))
    add(add(made, "virtualport", type="openvswitch"), "parameters", interfaceid=vif.port_id)
    return made


def _tap(parts: Element, _vif: Vif) -> Element:
    return add(parts, "interface", type="ethernet")


def _macvtap(parts: Element, vif: Vif) -> Element:
    mode = vif.details.get("macvtap_mode") or "bridge"
    if mode not in _MACVTAP_MODES:
        raise DriverError(reason=f"Port {vif.port_id} has an unknown macvtap mode.")
    made = add(parts, "interface", type="direct")
    add(made, "source", dev=_detail(vif, "macvtap_source", "device"), mode=str(mode))
    return made


def _vhost_user(parts: Element, vif: Vif) -> Element:
    mode = vif.details.get("vhostuser_mode") or "client"
    if mode not in ("client", "server"):
        raise DriverError(reason=f"Port {vif.port_id} has an unknown vhostuser mode.")
    made = add(parts, "interface", type="vhostuser")
    add(made, "source", type="unix", path=_detail(vif, "vhostuser_socket", "socket"), mode=str(mode))
    return made


def _detail(vif: Vif, name: str, what: str) -> str:
    value = vif.details.get(name)
    if not value:
        raise DriverError(reason=f"Port {vif.port_id} names no {what}.")
    return str(value)


_PLUGS: dict[str, Callable[[Element, Vif], Element]] = {
    "bridge": _bridge, "ovs": _ovs, "tap": _tap, _DIRECT: _macvtap, _SHARING: _vhost_user,
}  # fmt: skip


def _driver(made: Element, wanted: Hardware, choices: Choices) -> None:
    queues = min(wanted.topology.vcpus, MOST_QUEUES)
    attributes = {}
    if wanted.multiqueue and queues > 1 and not choices.user_networking:
        attributes["queues"] = str(queues)
    if wanted.packed_ring:
        attributes["packed"] = "on"
    if attributes:
        add(made, "driver", **attributes)
