"""Fixtures that start real servers, for whoever asks for them."""

from __future__ import annotations

pytest_plugins = ["tests.real.databases", "tests.real.libvirtd", "tests.real.memcached", "tests.real.rabbitmq"]
