"""Bodies of the actions that move servers to other hosts."""

from __future__ import annotations

from api_cell.edge.route import ByVersion, Schema
from api_cell.edge.shapes import BOOLEAN, HOST, strict

_BOOLEAN_OR_AUTO: Schema = {"anyOf": [BOOLEAN, {"enum": ["auto"]}]}
_HOST_OR_NULL: Schema = {"anyOf": [HOST, {"type": "null"}]}


def _live(*, required: tuple[str, ...] = (), **more: Schema) -> Schema:
    fields = {"block_migration": _BOOLEAN_OR_AUTO, "host": _HOST_OR_NULL, **more}
    return strict({"os-migrateLive": strict(fields, "block_migration", "host", *required)}, "os-migrateLive")


def _evacuate(*required: str, **more: Schema) -> Schema:
    fields = {"host": HOST, "adminPass": {"type": "string"}, **more}
    return strict({"evacuate": strict(fields, *required)}, "evacuate")


RESIZE = strict(
    {
        "resize": strict(
            {
                "flavorRef": {"type": ["string", "integer"], "minLength": 1},
                "OS-DCF:diskConfig": {"type": "string", "enum": ["AUTO", "MANUAL"]},
            },
            "flavorRef",
        )
    },
    "resize",
)
MIGRATE: ByVersion = (
    ((2, 1), strict({"migrate": {}}, "migrate")),
    ((2, 56), strict({"migrate": {**strict({"host": _HOST_OR_NULL}), "type": ["object", "null"]}}, "migrate")),
)
LIVE: ByVersion = (
    ((2, 1), _live(block_migration=BOOLEAN, disk_over_commit=BOOLEAN, required=("disk_over_commit",))),
    ((2, 25), _live()),
    ((2, 30), _live(force=BOOLEAN)),
    ((2, 68), _live()),
)
EVACUATE: ByVersion = (
    ((2, 1), _evacuate("onSharedStorage", onSharedStorage=BOOLEAN)),
    ((2, 14), _evacuate()),
    ((2, 29), _evacuate(force=BOOLEAN)),
    ((2, 68), _evacuate()),
)
