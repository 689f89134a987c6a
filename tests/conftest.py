"""Fixtures that start real servers, for every test that names them."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.real.databases", "tests.real.libvirtd", "tests.real.memcached", "tests.real.rabbitmq"]

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")  # how long an example takes says how busy the machine is
