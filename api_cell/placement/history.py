"""The microversions of the Placement API: what each changed for clients (facts: Placement API reference).

The newest one that is served is the last of the table. What a version changes is data elsewhere: `min_version` and
`max_version` of routes, fields of views, schemas and queries with the versions that have them
(`api_cell.edge.versioned`).
"""

from __future__ import annotations

from api_cell.edge.route import Version

HISTORY: dict[Version, str] = {
    (1, 0): "The first one: resource providers, their inventories and usages, and allocations.",
    (1, 1): "Providers are in aggregates, which can be read and set.",
    (1, 2): "Resource classes can be listed, created, renamed and deleted; names of new ones begin with CUSTOM_.",
    (1, 3): "Providers can be filtered by aggregates of which they are in one.",
    (1, 4): "Providers can be filtered by resources that they have left.",
    (1, 5): "All inventories of a provider can be deleted at once.",
    (1, 6): "Traits, and which of them a provider has.",
    (1, 7): "A PUT of a resource class creates it or confirms it, and renames none any more.",
    (1, 8): "Allocations that are written name their project and user.",
    (1, 9): "The usages of a project, and of one of its users.",
    (1, 10): "Allocation candidates.",
    (1, 11): "Providers link to their allocations.",
    (1, 12): "Allocations are written as they are read, by provider, and show their project and user.",
    (1, 13): "Allocations of several consumers can be written at once.",
    (1, 14): "Providers have parents: they show parent and root, and can be filtered by tree.",
    (1, 15): "Answers say when what they show changed last, and that they may not be cached.",
    (1, 16): "The number of allocation candidates can be limited.",
    (1, 17): "Candidates can be required to have traits; summaries of providers show theirs.",
    (1, 18): "Providers can be filtered by traits that they have.",
    (1, 19): "Aggregates of a provider come with its generation, which is checked when they are set.",
    (1, 20): "A provider is shown when it is created.",
    (1, 21): "Candidates can be required to be in an aggregate.",
    (1, 22): "Traits can be forbidden.",
    (1, 23): "Errors have a code.",
    (1, 24): "Several conditions on aggregates in one query must all hold.",
    (1, 25): "Candidates for several numbered groups of resources, which may share a provider or not.",
    (1, 26): "An inventory can be reserved in full.",
    (1, 27): "Summaries of providers show all resource classes of the provider.",
    (1, 28): "Consumers have a generation, which is shown, and checked when allocations are written.",
    (1, 29): "Candidates combine the providers of a tree; summaries show parent and root.",
    (1, 30): "Inventories and allocations can be changed together, in one step.",
    (1, 31): "Candidates can be required to be in a tree.",
    (1, 32): "Aggregates can be forbidden.",
    (1, 33): "Groups of resources can have names of letters, digits, `_` and `-`.",
    (1, 34): "Candidates say which providers serve which group; allocations that are written may say so too.",
    (1, 35): "The root of a candidate's tree can be required to have traits, or not to have them.",
    (1, 36): "Groups can be required to be in one subtree, also groups without resources.",
    (1, 37): "A provider can be given another parent, or none.",
    (1, 38): "Consumers have a type, which is shown and written; usages of projects are grouped by it.",
    (1, 39): "A required trait can be one of several; several conditions on traits must all hold.",
}
"""In order, without gaps."""
OLDEST: Version = min(HISTORY)
NEWEST: Version = max(HISTORY)
