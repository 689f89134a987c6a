"""Network interfaces, by the VIF types of their ports."""

from __future__ import annotations

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
_BRIDGES, _SOCKETS = ("bridge",), ("ovs",)


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
    made = _plugged(parts, vif, choices)
    add(made, "mac", address=vif.mac)
    if not choices.user_networking:
        add(made, "target", dev=tap_name(vif.port_id))
        if vif.mtu:
            add(made, "mtu", size=str(vif.mtu))
        limits.of_interface(made, wanted.limits)
    add(made, "model", type=model)
    if model == "virtio":
        _driver(made, wanted, choices)
    add(made, "rom", enabled="no")


def _plugged(parts: Element, vif: Vif, choices: Choices) -> Element:
    if choices.user_networking:
        return add(parts, "interface", type="user")
    if vif.details.get("ovs_hybrid_plug"):
        raise DriverError(reason=f"Port {vif.port_id} asks for ovs_hybrid_plug, which is not supported.")
    if vif.vif_type in _BRIDGES:
        if not vif.details.get("bridge_name"):
            raise DriverError(reason=f"Port {vif.port_id} names no bridge.")
        made = add(parts, "interface", type="bridge")
        add(made, "source", bridge=str(vif.details["bridge_name"]))
        return made
    if vif.vif_type in _SOCKETS:
        made = add(parts, "interface", type="bridge")
        add(made, "source", bridge=str(vif.details.get("bridge_name") or "br-int"))
        add(add(made, "virtualport", type="openvswitch"), "parameters", interfaceid=vif.port_id)
        return made
    if vif.vif_type == "tap":
        return add(parts, "interface", type="ethernet")
    raise DriverError(reason=f"Port {vif.port_id} is of VIF type {vif.vif_type or 'none'}, which is not supported.")


def _driver(made: Element, wanted: Hardware, choices: Choices) -> None:
    queues = min(wanted.topology.vcpus, MOST_QUEUES)
    attributes = {}
    if wanted.multiqueue and queues > 1 and not choices.user_networking:
        attributes["queues"] = str(queues)
    if wanted.packed_ring:
        attributes["packed"] = "on"
    if attributes:
        add(made, "driver", **attributes)
