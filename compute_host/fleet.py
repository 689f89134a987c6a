"""Many hosts in one process, on shared threads and one connection to the cell's queue."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cell_service.context import SYSTEM_CLOCK, Clock
from cell_service.peers.certificates import Certificates
from cell_service.peers.image import Images
from compute_host.agent import Agent
from compute_host.config import HostSettings
from compute_host.dependencies import HostDependencies
from compute_host.image_cache import ImageCache
from compute_host.image_signatures import Signatures
from compute_host.timers import Pools, Timers
from compute_host.virt import make_driver


class Fleet:
    """The compute hosts of one process; one host is a fleet of one."""

    def __init__(
        self,
        hosts: Iterable[HostSettings],
        dependencies: HostDependencies,
        *,
        clock: Clock = SYSTEM_CLOCK,
        pools: Pools | None = None,
    ) -> None:
        settings = tuple(hosts)
        builds = max((one.max_concurrent_builds for one in settings), default=1)
        self._timers = Timers(clock)
        self._pools = pools or Pools(control=min(8, 2 + len(settings)), builds=min(64, builds * len(settings)), verbs=8)
        queues, images = dependencies.queues, dependencies.images
        caches: dict[Path, ImageCache] = {}
        self.agents: dict[str, Agent] = {}
        for one in settings:
            cache = None
            if images is not None:
                cache = caches.setdefault(one.image_cache, _cache(one, images, dependencies.certificates, clock))
            self.agents[one.host] = Agent(
                one,
                dependencies,
                driver=make_driver(one, self._timers, self._pools.control, dependencies.keys),
                transport=queues.to(queues.url_of(one.state)) if queues else dependencies.transport,
                images=cache,
                timers=self._timers,
                pools=self._pools,
            )

    def start(self) -> None:
        """Begin to bring all hosts up; returns at once."""
        for agent in self.agents.values():
            agent.start()

    def wait_ready(self, seconds: float) -> bool:
        """Wait until every host is up. False when the time was not enough."""
        clock = self._timers.clock
        until = clock.monotonic() + seconds
        return all(clock.wait(agent.ready, until - clock.monotonic()) for agent in self.agents.values())

    def stop(self, grace_seconds: float = 30.0) -> None:
        """Claim nothing new, finish running operations within the grace (of all hosts together). Safe to call twice."""
        clock = self._timers.clock
        until = clock.monotonic() + grace_seconds
        for agent in self.agents.values():
            agent.close()
        for agent in self.agents.values():
            agent.stop(max(0.0, until - clock.monotonic()))
        self._timers.stop()
        self._pools.stop()


def _cache(settings: HostSettings, images: Images, certificates: Certificates | None, clock: Clock) -> ImageCache:
    return ImageCache(
        images,
        settings.image_cache,
        settings.cached_images,
        Signatures(settings.signatures, certificates, clock),
    )
