"""The shape of a cloud, remembered in its directory: a later `polycell up` need not be given its options again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from cell_service.errors import Invalid
from tools.up import record
from tools.up.configs import write_secret
from tools.up.plan import Options, Plan


def options(state: Path, given: Mapping[str, Any]) -> Options:
    """The options: those of the command line, else those that the cloud in the directory has, else the defaults.
    `given` is by the names of the options, None where the line does not say. Raises Invalid for a file that cannot be
    read."""
    names = {field.name for field in fields(Options)} - {"state"}
    said = {name: given[name] for name in names if given.get(name) is not None}
    kept = {name: value for name, value in _kept(state).items() if name in names}
    chosen = {**kept, **said}
    if not chosen.get("processes") and "workers" not in said:
        chosen.pop("workers", None)  # they are processes
    if not chosen.get("tls_cert"):
        chosen = {name: value for name, value in chosen.items() if name not in ("tls_key", "tls_ca") or name in said}
    for name in ("database", "transport"):
        if name in chosen:
            chosen[name] = tuple(chosen[name])
    return replace(Options(state), **chosen)


def remember(plan: Plan) -> None:
    """The next launcher finds what this one was given, and which hosts it chose."""
    chosen = replace(plan.options, driver=plan.driver)
    options = {name: value for name, value in asdict(chosen).items() if name != "state"}
    write_secret(_file(plan.state), json.dumps(options))


def _file(state: Path) -> Path:
    return state / "etc" / "options.json"


def _kept(state: Path) -> dict[str, Any]:
    path = _file(state)
    try:
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return _recorded(state)
    except NotADirectoryError:
        return {}  # the launcher says what is wrong with the directory
    except (OSError, ValueError) as error:
        raise Invalid(reason=f"{path} cannot be read: {error}") from error
    return kept


def _recorded(state: Path) -> dict[str, Any]:
    """The options of a cloud whose launcher recorded none, as its record shows them."""
    try:
        known = record.read(state)
    except Invalid:
        return {}
    return {
        "driver": known["driver"],
        "auth": known["auth"],
        "cells": len(known["cells"]) - 1,
        "processes": known["mode"] == "processes",
    }
