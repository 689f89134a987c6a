"""The namespace of one network: the bridge where its hosts meet, with the gateway's address, DHCP and metadata."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cell_service.errors import WiringFailed
from tools.companions.network.wiring.dhcp import METADATA, Dhcp
from tools.companions.network.wiring.metadata import MetadataProxy
from tools.companions.network.wiring.namespaces import ProcessNamespace
from tools.companions.network.wiring.plan import NetworkPlan

BRIDGE = "br0"


@dataclass(slots=True)
class NetworkService:
    """The processes of one network's service; they end with our process, however that ends."""

    own_namespace: ProcessNamespace
    dhcp: Dhcp
    proxy: MetadataProxy | None = None
    _made: bool = False
    _addresses: set[str] = field(default_factory=set)

    @classmethod
    def open(cls, directory: Path) -> NetworkService:
        own_namespace = ProcessNamespace()
        return cls(own_namespace, Dhcp(directory, own_namespace.namespace))

    def make(self, network: NetworkPlan, proxy: Callable[[], MetadataProxy] | None) -> None:
        """Give the bridge its addresses, run dnsmasq, and answer metadata. Raises WiringFailed."""
        if not self._made:
            self._bridge()
        namespace, own = self.own_namespace.namespace, network.dhcp_port
        mac = (("address", own.mac),) if own is not None else ()
        namespace.run(
            ("ip", "link", "set", BRIDGE, "mtu", str(network.mtu), *(word for pair in mac for word in pair), "up")
        )
        wanted = {f"{METADATA}/32"}
        if own is not None:
            wanted |= {str(one.address) for one in own.fixed}
        wanted |= {f"{subnet.gateway}/{subnet.net.prefixlen}" for subnet in network.subnets if subnet.gateway}
        wanted = {text for text in wanted if not text.lower().startswith("fe80:")}
        has = namespace.addresses(BRIDGE)
        namespace.batch(
            [("address", "delete", text, "dev", BRIDGE) for text in sorted(has - wanted)]
            + [
                ("address", "add", text, "dev", BRIDGE, *(("nodad",) if ":" in text else ()))
                for text in sorted(wanted - has)
            ]
        )
        self.dhcp.make(network)
        if proxy is not None and self.proxy is None:
            self.proxy = proxy()
        if self.proxy is not None:
            self.proxy.know(network)

    def _bridge(self) -> None:
        namespace = self.own_namespace.namespace
        quiet = ("stp_state", "0", "forward_delay", "0", "mcast_snooping", "0")
        if BRIDGE not in namespace.links():
            namespace.run(("ip", "link", "add", BRIDGE, "type", "bridge", *quiet))
        write = (
            "for f in bridge/bridge-nf-call-iptables bridge/bridge-nf-call-ip6tables;"
            ' do [ ! -e "/proc/sys/net/$f" ] || echo 0 >"/proc/sys/net/$f" || exit 1; done;'
            " for f in ipv4/ip_forward ipv6/conf/all/forwarding; do echo 1 >/proc/sys/net/$f || exit 1; done"
        )
        namespace.run(("sh", "-c", write))
        self._made = True

    @property
    def alive(self) -> bool:
        return self.own_namespace.alive

    def close(self) -> None:
        """Remove all of the network's, here and in the hosts."""
        if self.proxy is not None:
            self.proxy.close()
        self.dhcp.close()
        self.own_namespace.close()


__all__ = ["BRIDGE", "NetworkService", "WiringFailed"]
