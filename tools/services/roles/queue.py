"""A message queue for the processes of one machine."""

from __future__ import annotations

from oslo_config import cfg

from cell_service.config import Defaults, read
from cell_service.errors import Invalid
from cell_service.rpc.local.broker import LocalBroker
from tools.services.part import Made, Part


def make(conf: cfg.ConfigOpts) -> Part:
    url = read(conf, Defaults).transport_url
    if not url.startswith("local:///"):
        raise Invalid(reason="[DEFAULT] transport_url must look like local:///path/to/socket for the role queue")
    broker = LocalBroker(url.removeprefix("local://"))
    return Made(broker.start, lambda grace_seconds: broker.stop())
