"""All options that Polycell reads, by section: for oslo's generators and for the pages in `docs`.

python -m tools.options > docs/configuration.md
python -m tools.options sample > docs/polycell.conf.sample
python -m tools.options names > tools/services/option_names.py
"""

from __future__ import annotations

import dataclasses
import importlib
import io
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from oslo_config import cfg, generator

_ROOT = Path(__file__).parent.parent
_PACKAGES = ("cell_service", "mapping_db", "api_cell", "compute_host", "tools")


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Sections by name, each with its options by name: the entry point `oslo.config.opts`."""
    found: dict[str, dict[str, cfg.Opt]] = {}
    for section in _sections():
        options = found.setdefault(str(_group(section)), {})
        for field in dataclasses.fields(section):
            if "option" in field.metadata:
                options[field.metadata["option"].name] = field.metadata["option"]
    return [(name, [options[each] for each in sorted(options)]) for name, options in sorted(found.items())]


def _sections() -> Iterator[type]:
    """The dataclasses that mirror a section of a file, in all modules that define options."""
    for package in _PACKAGES:
        for path in sorted((_ROOT / package).rglob("*.py")):
            if "option(" not in (source := path.read_text(encoding="utf-8")) or "GROUP" not in source:
                continue
            module = importlib.import_module(".".join(path.relative_to(_ROOT).with_suffix("").parts))
            yield from (
                each
                for each in vars(module).values()
                if isinstance(each, type) and each.__module__ == module.__name__ and isinstance(_group(each), str)
            )


def _group(kind: type) -> object:
    return getattr(kind, "GROUP", None) if dataclasses.is_dataclass(kind) else None


def page() -> str:
    """`docs/configuration.md`."""
    lines = [
        "# Configuration",
        "",
        "All options, by section, with their defaults. `python -m tools.options` makes this page;",
        "[polycell.conf.sample](polycell.conf.sample) has them as a commented file, as",
        "`oslo-config-generator --namespace polycell` makes it. What they are for in an",
        "installation is in [install.md](install.md). Sections with an account at another service (`[glance]`,",
        "`[neutron]`, `[cinder]`, `[placement]`, `[keystone_authtoken]` and their kin) take the options of",
        "keystoneauth's `auth_type`, too.",
        "",
        "Options that are marked **Reloadable** are taken up when a process gets SIGHUP (`systemctl reload`), which",
        "has it read its files again, as Nova's services do. All other options need a restart.",
        "Without any signal, every process follows the cell mappings, and the APIs the files of policies.",
    ]
    sections = list_opts()
    lines += ["", " · ".join(f"[{name}](#{name.lower()})" for name, _ in sections)]
    for name, options in sections:
        lines += ["", f"## [{name}]", "", "| option | type | default | meaning |", "| --- | --- | --- | --- |"]
        lines += [f"| `{each.name}` | {_type(each)} | {_default(each)} | {_meaning(each)} |" for each in options]
    return "\n".join(lines) + "\n"


def _type(option: cfg.Opt) -> str:
    kind = option.type
    choices = getattr(kind, "choices", None)
    if choices:
        return ", ".join(f"`{each}`" for each in choices)
    words = {"Integer": "whole number", "Float": "number", "Boolean": "true, false", "List": "list", "Port": "port"}
    word = words.get(type(kind).__name__, "text")
    least, most = getattr(kind, "min", None), getattr(kind, "max", None)
    if word == "port" or least is None:
        return word
    return f"{word}, {least} or more" if most is None else f"{word}, {least} to {most}"


def _default(option: cfg.Opt) -> str:
    if option.secret and option.default:
        return "set"
    if option.default is None:
        return "unset"
    value = ",".join(map(str, option.default)) if isinstance(option.default, (list, tuple)) else str(option.default)
    return f"`{value.lower() if isinstance(option.default, bool) else value}`" if value else "empty"


def _meaning(option: cfg.Opt) -> str:
    words = " ".join((option.help or "").split()).replace("|", "\\|")
    return f"{words} **Reloadable.**" if option.mutable else words


def sample() -> str:
    """`docs/polycell.conf.sample`: what oslo's generator writes, without need of installed entry points."""
    conf = cfg.ConfigOpts()
    generator.register_cli_opts(conf)
    conf(args=["--namespace", "polycell"], default_config_files=[], default_config_dirs=[])
    groups = generator._get_groups([("polycell", list_opts())])
    written = io.StringIO()
    formatter = generator._OptFormatter(conf, output_file=written)
    for name in ("DEFAULT", *sorted(groups.keys() - {"DEFAULT"})):
        generator._output_opts(formatter, name, groups[name])
        formatter.write("\n\n")
    return written.getvalue().rstrip() + "\n"


def names_module() -> str:
    """`tools/services/option_names.py`: a process does not import all sections to know their names."""
    lines = ['"""The names of all options by section, made by `python -m tools.options names`."""', "", "NAMES = {"]
    for section, found in list_opts():
        words = textwrap.wrap(" ".join(each.name for each in found), 100)
        lines += [f'    "{section}": (', *(f'        "{line} "' for line in words), "    ),"]
    return "\n".join([*lines, "}", ""])


if __name__ == "__main__":
    pages = {(): page, ("sample",): sample, ("names",): names_module}
    print(pages[tuple(sys.argv[1:])](), end="")
