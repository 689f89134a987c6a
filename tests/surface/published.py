"""What is published of each route, and the samples, as values."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from tests.edge import reference
from tests.edge.reference import parsed


@dataclass(frozen=True)
class Row:
    """A published route."""

    data: dict[str, Any]

    @property
    def name(self) -> str:
        return " ".join(part for part in (self.data["method"], self.data["path"], self.data["action"]) if part)

    @property
    def key(self) -> tuple[str, str, str | None]:
        return self.data["method"], re.sub(r"\{[^}]*\}", "{}", self.data["path"]), self.data["action"]

    @property
    def versions(self) -> list[str]:
        """The lowest and the highest at which it is there."""
        return sorted({self.data["min_version"], self.data["max_version"]}, key=parsed)

    def allowed(self) -> set[int]:
        """Every status that it may answer a valid request of an administrator with."""
        found = {success["code"] for success in self.data["success"]}
        for errors in self.data["expected_errors"]:
            found |= set(errors["codes"])
        return found | ({self.data["removed_status"]} if self.data["removed"] else set())

    def schema(self, kind: str, version: str) -> Any:
        return reference._schema(self.data["schema_file"], kind, version)


@cache
def rows() -> tuple[Row, ...]:
    """The published routes below /v2.1; none where the data is not there."""
    if not (reference.FOLDER / "routes.json").exists():
        return ()
    published = json.loads((reference.FOLDER / "routes.json").read_text())["routes"]
    return tuple(Row(row) for row in published if " " not in row["path"] and row["path"] not in ("/", "/versions/{id}"))


@cache
def samples() -> tuple[tuple[str, dict[str, Any]], ...]:
    """Every published body with the request that it belongs to."""
    index = json.loads((reference.FOLDER / "samples_index.json").read_text())["samples"]
    return tuple((name, use) for name, uses in index.items() for use in uses)
