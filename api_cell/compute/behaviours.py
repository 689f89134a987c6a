"""What the service does otherwise from a version on, where no field, table or route says it.

Handlers ask these by name, so that version numbers stand in tables alone. `history` says what a version changed as a
whole; fields of documents, bodies and queries carry their own versions (`fields`). Facts: Nova API reference.
"""

from __future__ import annotations

from dataclasses import dataclass

from api_cell.edge.route import Version


@dataclass(frozen=True, slots=True)
class Behaviour:
    """`rule` holds from the version `since` on, and not before."""

    since: Version
    rule: str

    def at(self, version: Version) -> bool:
        return version >= self.since


# -- flavors and key pairs ------------------------------------------------------------------------

PUBLIC_FLAVORS_HAVE_NO_ACCESS_LIST = Behaviour((2, 7), "A public flavor can't be given to a single project.")
FLAVORS_SHOW_EXTRA_SPECS = Behaviour((2, 61), "Flavors show their extra specs to callers that may see them.")
EXTRA_SPECS_ARE_CHECKED = Behaviour((2, 86), "Extra specs of flavors are known ones, with values that fit.")
FLAVORS_ARE_FOUND_BY_NAME = Behaviour((2, 102), "A name filters lists of flavors; before, it is ignored.")
KEYS_OF_OTHER_USERS = Behaviour((2, 10), "A request names the user whose key pairs are meant.")
KEYS_IN_PAGES = Behaviour((2, 35), "Lists of key pairs come in pages.")

# -- hosts and usage ------------------------------------------------------------------------------

HYPERVISORS_IN_PAGES = Behaviour((2, 33), "Lists of hypervisors come in pages.")
HYPERVISORS_BY_UUID = Behaviour((2, 53), "Hypervisors are named by UUID; before, by a number that is a cell's own.")
HYPERVISORS_WITH_SERVERS = Behaviour((2, 53), "A query asks hypervisors for their servers.")
HYPERVISORS_SHOW_NO_SERVERS = Behaviour((2, 75), "A hypervisor without servers shows an empty list of them.")
DOWN_CELLS_ARE_SHOWN = Behaviour((2, 69), "What is known of servers and services in cells that are down is shown.")
USAGE_IN_PAGES = Behaviour((2, 40), "The usage of projects comes in pages.")
