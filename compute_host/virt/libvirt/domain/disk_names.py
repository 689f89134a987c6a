"""The names of a guest's disks in its domain. The guest sees others; but libvirt finds disks by them, and makes the
addresses of those on SCSI, SATA and IDE from them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain, count, product
from string import ascii_lowercase

from compute_host.virt.libvirt.domain.previous import Previous

PREFIXES = {"virtio": "vd", "scsi": "sd", "sata": "sd", "ide": "hd", "usb": "sd"}
_NAME = re.compile("(?:/dev/)?(?:vd|sd|hd|xvd)([a-z]{1,2})")


class Names:
    """Gives each disk a name of its own. Disks that are still there keep theirs."""

    def __init__(self, previous: Previous, keys: Iterable[str], taken: Iterable[str] = ()) -> None:
        """`keys`: those of all disks that are to be named, volumes' ids and files. `taken`: names of other disks."""
        self._kept = {key: name for key in keys if (name := previous.disk_name(key)) is not None}
        self._taken = {*self._kept.values(), *taken}

    def of(self, key: str, bus: str, wanted: str | None = None) -> str:
        """The name of the disk: the one that it had, else the letter of `wanted` (/dev/vdb) on its bus, if it is free,
        else the first free one."""
        prefix = PREFIXES[bus]
        kept = self._kept.get(key)
        if kept is None or not kept.startswith(prefix):
            found = _NAME.fullmatch(wanted or "")
            letters = chain([found[1]] if found else [], _letters())
            kept = next(name for each in letters if (name := prefix + each) not in self._taken)
        self._taken.add(kept)
        return kept


def number_of(name: str) -> int:
    """0 of sda, 25 of sdz, 26 of sdaa."""
    number = 0
    for letter in name[2:]:
        number = number * 26 + ascii_lowercase.index(letter) + 1
    return number - 1


def _letters() -> Iterator[str]:
    for length in count(1):
        yield from map("".join, product(ascii_lowercase, repeat=length))
