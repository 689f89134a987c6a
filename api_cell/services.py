"""The dependencies of an API process besides its cloud: its settings, the super-conductors, and the other services of
the site."""

from __future__ import annotations

from dataclasses import dataclass, field

from api_cell.config import ApiSettings
from api_cell.contract import SuperConductor
from api_cell.hosts.states import HostStates
from cell_service.context import SYSTEM_CLOCK
from cell_service.errors import Forbidden, Invalid, NotSupported
from cell_service.peers.image import Images
from cell_service.peers.limits import UnifiedLimits
from cell_service.peers.network import Networks
from cell_service.peers.shares import Shares
from cell_service.peers.volumes import Volumes
from cell_service.ttl_cache import TtlCache


@dataclass(frozen=True, slots=True)
class Services:
    """A peer is None where the site is without it; `require_…` answers it, or raises an error for the client."""

    settings: ApiSettings
    superconductor: SuperConductor
    """A client of the super-conductors' contract, on the cloud's bus."""
    images: Images | None = None
    networks: Networks | None = None
    volumes: Volumes | None = None
    shares: Shares | None = None
    unified_limits: UnifiedLimits | None = None
    host_states: HostStates = field(default_factory=HostStates)
    item_limits: TtlCache[str, dict[str, int]] = field(default_factory=lambda: TtlCache(SYSTEM_CLOCK, 1.0))
    """Project → its limits as they were read last."""

    def require_images(self) -> Images:
        """Raises NotSupported where there is no image service."""
        if self.images is None:
            raise NotSupported(reason="There is no image service.")
        return self.images

    def require_networks(self) -> Networks:
        """Raises NotSupported where there is no network service."""
        if self.networks is None:
            raise NotSupported(reason="There is no network service.")
        return self.networks

    def require_volumes(self) -> Volumes:
        """Raises Invalid where there is no block storage service."""
        if self.volumes is None:
            raise Invalid(reason="This cloud has no block storage service.")
        return self.volumes

    def require_shares(self) -> Shares:
        """Raises Forbidden where there is no shared file system service."""
        if self.shares is None:
            raise Forbidden(reason="This cloud has no shared file system service.")
        return self.shares

    def require_unified_limits(self) -> UnifiedLimits:
        """Raises NotSupported where limits are not those of the identity service."""
        if self.unified_limits is None:
            raise NotSupported(reason="There are no unified limits.")
        return self.unified_limits
