"""Differences of behaviour by version, where no field, table or route says them.

Handlers ask these by name, so that version numbers stand in tables alone. `history` says what a version changed as a
whole. Facts: Placement API reference.
"""

from __future__ import annotations

from api_cell.edge.versioned import Behaviour

# -- answers --------------------------------------------------------------------------------------

ANSWERS_ARE_DATED = Behaviour((1, 15), "Answers say when what they show changed last, and may not be cached.")
ERRORS_HAVE_A_CODE = Behaviour((1, 23), "Errors have a code.")
NEW_PROVIDERS_ARE_SHOWN = Behaviour((1, 20), "A provider is shown when it is created; before, only its place.")
SUMMARIES_SHOW_TREES = Behaviour((1, 29), "Summaries show all of a tree; before, the providers of the candidates.")
SUMMARIES_SHOW_ALL_CLASSES = Behaviour((1, 27), "Summaries show all resource classes; before, the requested ones.")

# -- what may be ----------------------------------------------------------------------------------

INVENTORIES_RESERVED_IN_FULL = Behaviour((1, 26), "All of an inventory can be reserved; before, all but one.")
PARENTS_CHANGE = Behaviour((1, 37), "A provider with a parent can be given another, or none.")
CANDIDATES_IN_TREES = Behaviour((1, 29), "Providers of a tree serve an unnamed group together; before, one alone.")

# -- queries --------------------------------------------------------------------------------------

GROUPS_HAVE_SUFFIXES = Behaviour((1, 25), "A request may have several groups of resources, by the suffixes of names.")
GROUPS_MAY_HAVE_NOTHING = Behaviour((1, 36), "A group in `same_subtree` needs no resources.")
TRAITS_ARE_FORBIDDEN = Behaviour((1, 22), "`!` before a trait forbids it.")
AGGREGATES_ARE_FORBIDDEN = Behaviour((1, 32), "`!` before aggregates forbids them.")
ONE_OF_SEVERAL_TRAITS = Behaviour((1, 39), "`in:` before traits requires one of them.")
