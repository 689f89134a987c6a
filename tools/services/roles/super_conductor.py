"""The super-conductor: over the cells."""

from __future__ import annotations

from oslo_config import cfg

from api_cell.config import Zones
from api_cell.scheduler.config import read_settings
from api_cell.scheduler.scheduler import Scheduler
from api_cell.superconductor.context import settings_from
from api_cell.superconductor.service import SuperConductorService
from cell_service.config import read
from tools.services.configured import configured_cloud
from tools.services.part import Made, Part
from tools.services.shared import Shared


def make(conf: cfg.ConfigOpts, shared: Shared) -> Part:
    cloud, settings = shared.cloud(lambda: configured_cloud(conf, shared.clock)).cloud, settings_from(conf)
    zone = read(conf, Zones).default_availability_zone
    scheduling = read_settings(conf, service_down_seconds=settings.service_down_seconds, default_availability_zone=zone)
    service = SuperConductorService(cloud, Scheduler(cloud, scheduling), settings)
    return Made(service.start, shared.ending(service.stop))
