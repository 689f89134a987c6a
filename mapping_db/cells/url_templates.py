"""The variables that the URLs of a cell mapping may have, filled from the process's own URL.

So each process can reach a cell's servers with credentials of its own: a mapping with `rabbit://{username}:{password}@
cell1/` read where `transport_url = rabbit://api1:secret@top/` means `rabbit://api1:secret@cell1/`. Variables are
nova's (cells guide, "Template URLs in Cell Mappings"): scheme, username, password, hostname, port, path, query,
fragment; with several hosts in the URL also username1, password1, hostname1, port1, username2, ….
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from cell_service.errors import Invalid

_VARIABLE = re.compile(r"\{([A-Za-z_]\w*)\}")
_KNOWN = re.compile(r"scheme|path|query|fragment|(?:username|password|hostname|port)_?\d*")
_PORT = re.compile(r":\d+$")


def demand_known(template: str) -> None:
    """Raises Invalid when the URL has a variable that there is not. A brace of a password is quoted: %7B."""
    for name in _VARIABLE.findall(template):
        if not _KNOWN.fullmatch(name):
            raise Invalid(reason=f"the URL of a cell mapping names {{{name}}}, and there is no such variable")


def fill(template: str, own_url: str) -> str:
    """The URL with its variables replaced.

    Raises Invalid when the process's own URL lacks something that a variable names, or there is no such variable.
    """
    if "{" not in template:
        return template
    demand_known(template)
    values = _values(own_url)

    def value(found: re.Match[str]) -> str:
        name = found[1].replace("_", "")
        if name not in values:
            raise Invalid(reason=f"the URL of a cell mapping names {{{name}}}, which this process's own URL lacks")
        return values[name]

    return _VARIABLE.sub(value, template)


def _values(url: str) -> dict[str, str]:
    parts = urlsplit(url)
    values = {
        "scheme": parts.scheme,
        "path": parts.path.removeprefix("/"),
        "query": parts.query,
        "fragment": parts.fragment,
    }
    for number, place in enumerate(parts.netloc.split(","), start=1):
        for name, value in _place(place).items():
            values[f"{name}{number}"] = value
            if number == 1:
                values[name] = value
    return values


def _place(place: str) -> dict[str, str]:
    """Those of the four variables that `user:password@host:port` has."""
    login, _, address = place.rpartition("@")
    username, colon, password = login.partition(":")
    hostname, _, port = address.rpartition(":") if _PORT.search(address) else (address, "", "")
    found = {"hostname": hostname, "port": port, "username": username}
    if colon:
        found["password"] = password
    return {name: value for name, value in found.items() if value}
