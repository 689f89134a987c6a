"""Records of the network service, in memory: what cell_service.peers.network.Records promises, and no more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from cell_service.context import Context
from cell_service.errors import NotFound
from cell_service.peers.network import Noun, Record


@dataclass
class MemoryRecords:
    """Records by noun and id. Security groups show their rules, as the service does."""

    stored: dict[str, dict[str, Record]] = field(default_factory=dict)
    ports: Callable[[], list[Record]] = list
    """Ports are what the instances have."""
    change_port: Callable[[str, Record], None] = lambda _port_id, _fields: None

    def add(self, noun: Noun, **fields: Any) -> str:
        record_id = str(fields.pop("id", uuid4()))
        self.stored.setdefault(noun, {})[record_id] = {"id": record_id, **fields}
        return record_id

    def find_all(self, ctx: Context, noun: Noun, **query: Any) -> list[Record]:
        def fits(record: Record) -> bool:
            return all(
                record.get(name) in value if isinstance(value, list) else record.get(name) == value
                for name, value in query.items()
            )

        records = self.ports() if noun == "ports" else list(self.stored.get(noun, {}).values())
        return [self._shown(noun, record) for record in records if fits(record)]

    def find(self, ctx: Context, noun: Noun, record_id: str) -> Record | None:
        return next(iter(self.find_all(ctx, noun, id=record_id)), None)

    def create(self, ctx: Context, noun: Noun, fields: Record) -> Record:
        record_id = self.add(noun, **fields)
        if noun == "floatingips":
            number = len(self.stored[noun])
            self.stored[noun][record_id].setdefault("floating_ip_address", f"198.51.{number // 250}.{number % 250 + 1}")
        return self._shown(noun, self.stored[noun][record_id])

    def change(self, ctx: Context, noun: Noun, record_id: str, fields: Record) -> Record:
        if noun == "ports":
            self.change_port(record_id, fields)
            return {}
        if record_id not in self.stored.get(noun, {}):
            raise NotFound(reason=f"{noun} {record_id} could not be found.")
        self.stored[noun][record_id] |= fields
        return self._shown(noun, self.stored[noun][record_id])

    def delete(self, ctx: Context, noun: Noun, record_id: str) -> None:
        self.stored.get(noun, {}).pop(record_id, None)

    def _shown(self, noun: Noun, record: Record) -> Record:
        if noun != "security-groups":
            return dict(record)
        rules = self.stored.get("security-group-rules", {}).values()
        mine = [rule for rule in rules if rule.get("security_group_id") == record["id"]]
        return {**record, "security_group_rules": mine}
