"""Differences of behaviour by version, where no field, table or route says them.

Handlers ask these by name, so that version numbers stand in tables alone. `history` says what a version changed as a
whole; fields of documents, bodies and queries carry their own versions (`api_cell.edge.versioned`). Facts: Nova API
reference.
"""

from __future__ import annotations

from api_cell.edge.versioned import Behaviour

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

# -- servers --------------------------------------------------------------------------------------

SERVERS_HAVE_A_DESCRIPTION = Behaviour((2, 19), "A server has a description that its owner writes; before, its name.")
HOST_STATUS_IS_SHOWN = Behaviour((2, 16), "Servers show the state of their host to callers that may see it.")
STATUSES_ARE_CHECKED = Behaviour((2, 38), "An unknown status as a filter of servers is an error.")
GROUPS_ARE_SHOWN = Behaviour((2, 71), "A server shows its group.")
IMAGE_PROPERTIES_ARE_SHOWN = Behaviour((2, 98), "A server shows the properties of its image.")
CHANGES_ANSWER_ALL = Behaviour((2, 75), "An update and a rebuild answer all that a show does.")
HISTORY_OF_DELETED_SERVERS = Behaviour((2, 21), "The history of a deleted server can be read.")
EVENTS_FOR_OWNERS = Behaviour((2, 51), "Owners see the events of actions, though not their traces.")
ACTIONS_IN_PAGES = Behaviour((2, 58), "The history of a server comes in pages, also since a time.")
MIGRATIONS_IN_PAGES = Behaviour((2, 59), "Lists of migrations come in pages.")

# -- actions of servers ---------------------------------------------------------------------------

EVACUATIONS_ANSWER_NOTHING = Behaviour((2, 14), "An evacuation answers no password.")
VOLUMES_OF_SHELVED_SERVERS = Behaviour((2, 20), "Volumes are attached to shelved servers, and detached from them.")
IMAGE_PROPERTIES_ARE_UNLIMITED = Behaviour((2, 39), "Properties of images count against no quota.")
IMAGE_ID_IN_BODY = Behaviour((2, 45), "The id of an image made of a server is in the body, and not in a header.")
MIGRATIONS_NAME_A_HOST = Behaviour((2, 56), "A cold migration can name its host; before, its body means nothing.")
VOLUMES_FOR_SEVERAL_SERVERS = Behaviour((2, 60), "A volume made for several servers can be attached to several.")
QUEUED_MIGRATIONS_ARE_ABORTED = Behaviour((2, 65), "A live migration can be aborted before it sends.")
LOCKS_HAVE_A_REASON = Behaviour((2, 73), "A lock has a reason; before, its body means nothing.")
UNSHELVING_NAMES_A_PLACE = Behaviour((2, 77), "An unshelved server goes to a place; before, the body means nothing.")
RESCUE_WITH_ROOT_VOLUME = Behaviour((2, 87), "Servers with their root disk on a volume can be rescued.")
REBUILD_WITH_ROOT_VOLUME = Behaviour((2, 93), "A root disk on a volume is written again by a rebuild.")
ATTACHED_AFTER_THE_ANSWER = Behaviour((2, 101), "A volume is attached after the answer, which is empty.")
