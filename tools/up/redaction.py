"""The secrets of a cloud of `polycell up`: which there are, and texts and documents without them."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from keystoneauth1 import loading
from oslo_config import cfg

from cell_service import logs
from tools.options import list_opts

HIDDEN = "***"
_NAMED_SECRET = re.compile(r"(?i)(pass(word|wd|code)?|secret(_key)?|token)$")
_URL_PASSWORD = re.compile(r"(?:://|,)[^\s:/@,]*:([^\s/@]+)@")
_LIST = re.compile(r"[,\s]+")


class Redaction:
    """Replaces these secrets, however they are escaped, passwords in URLs, and the values of fields that are named like
    secrets."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets if secret for form in _forms(secret)}
        longest_first = sorted(forms, key=lambda form: (-len(form), form))
        self._known = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def text(self, text: str) -> str:
        return logs.masked(self._known.sub(HIDDEN, text))

    def document(self, value: Any) -> Any:
        """The same for what JSON can express."""
        if isinstance(value, dict):
            return {
                self.text(name): HIDDEN if each and is_secret(name) else self.document(each)
                for name, each in value.items()
            }
        if isinstance(value, list):
            return [self.document(each) for each in value]
        return self.text(value) if isinstance(value, str) else value


def is_secret(name: str) -> bool:
    """Whether a field of this name has a secret for a value."""
    return _NAMED_SECRET.search(name) is not None


def collect(state: Path) -> tuple[set[str], dict[Path, str]]:
    """The secrets in the cloud's files; and the files that are there and could not be read, each with the reason."""
    declared = _declared()
    readers: dict[Path, Callable[[Path], Iterator[str]]] = {
        state / "etc" / "passwords.json": lambda path: iter(_read(path).values()),
        state / "etc" / "options.json": lambda path: _of_document("", _read(path)),
        state / "polycell.json": lambda path: _of_document("", _read(path)),
        state / "openrc": _of_openrc,
    }
    readers |= {path: lambda path: _of_config(path, declared) for path in (state / "etc").glob("*.conf")}
    secrets: set[str] = set()
    unreadable: dict[Path, str] = {}
    for path, reader in readers.items():
        try:
            secrets.update(reader(path))
        except FileNotFoundError:
            continue
        except OSError as error:
            unreadable[path] = str(error.strerror)
        except (ValueError, AttributeError, cfg.ParseError):
            unreadable[path] = "it is not of the form that `polycell up` writes"
    return secrets, unreadable


def _declared() -> dict[str, cfg.Opt]:
    """Options that are secret, by all their names: ours, and those of every kind of account."""
    options = [option for _, section in list_opts() for option in section]
    for plugin in loading.get_available_plugin_names():
        options += loading.get_auth_plugin_conf_options(plugin)
    found = {}
    for option in options:
        if option.secret:
            names = {option.name, option.dest, *(old.name for old in option.deprecated_opts if old.name)}
            found.update({_plain(name): option for name in names})
    return found


def _plain(name: str) -> str:
    return name.replace("-", "_").lower()


def _of_config(path: Path, declared: dict[str, cfg.Opt]) -> Iterator[str]:
    sections: dict[str, dict[str, list[str]]] = {}
    cfg.ConfigParser(str(path), sections).parse()
    for options in sections.values():
        for name, values in options.items():
            option = declared.get(_plain(name))
            for value in values:
                yield from _url_passwords(value)
                if option is not None or is_secret(name):
                    yield from value.split("\n")
                if isinstance(option, cfg.ListOpt):
                    yield from _LIST.split(value)


def _of_openrc(path: Path) -> Iterator[str]:
    for word in shlex.split(path.read_text(encoding="utf-8")):
        name, equals, value = word.partition("=")
        if equals:
            yield from _of_document(name, value)


def _of_document(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _of_document(key, each)
    elif isinstance(value, list):
        for each in value:
            yield from _of_document(name, each)
    elif isinstance(value, str):
        yield from _url_passwords(value)
        if is_secret(name):
            yield value


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _url_passwords(value: str) -> Iterator[str]:
    if "://" in value:
        yield from _URL_PASSWORD.findall(value)


def _forms(secret: str) -> Iterator[str]:
    """The forms of a secret: as it is, and as configuration files, JSON and URLs write it."""
    for plain in (secret, secret.replace("$$", "$"), unquote(secret)):
        yield plain
        yield plain.replace("$", "$$")
        yield json.dumps(plain)[1:-1]
        yield quote(plain, safe="")
