"""Options in configuration files that nothing reads: misspelt ones, and those of other software."""

from __future__ import annotations

from collections.abc import Sequence

from oslo_config import cfg

from tools.services.option_names import NAMES

OF_PLUGINS = frozenset({
    "barbican", "cinder", "glance", "keystone_authtoken", "manila", "neutron", "nova", "oslo_limit", "placement",
})  # fmt: skip
"""Sections with an account: the plugin that they name has options of its own."""


def unknown_options(files: Sequence[str]) -> list[str]:
    """`[section] name` of each, in sections of which options are read, in the files' order."""
    found: dict[str, None] = {}
    for file in files:
        sections: dict[str, dict[str, list[str]]] = {}
        cfg.ConfigParser(file, sections).parse()
        for section, options in sections.items():
            known = NAMES.get(section)
            if known is not None and section not in OF_PLUGINS:
                names = {name.replace("-", "_") for name in known.split()}
                found |= {f"[{section}] {name}": None for name in options if name.replace("-", "_") not in names}
    return list(found)
