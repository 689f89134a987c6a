"""Placement over HTTP, as hosts and conductors of a cell use it."""

from __future__ import annotations

from typing import Protocol

from cell_service.context import Context
from cell_service.model.host import NodeReport


class Placement(Protocol):
    def report(self, ctx: Context, node: NodeReport) -> None:
        """Make the node's provider, inventories and traits what the report says; write nothing when they are already.
        Traits that others set (CUSTOM_*, COMPUTE_STATUS_DISABLED) are kept. Raises PeerUnavailable, Conflict."""

    def set_disabled(self, ctx: Context, provider_uuid: str, disabled: bool) -> None:
        """Give the provider the trait COMPUTE_STATUS_DISABLED, or take it away."""

    def allocations_of(self, ctx: Context, consumer_uuid: str) -> dict[str, dict[str, int]]:
        """Provider uuid → resource class → amount; empty when the consumer has none."""

    def consumers_on(self, ctx: Context, provider_uuid: str) -> dict[str, dict[str, int]]:
        """Consumer uuid → resource class → amount, of all that is allocated from a provider."""

    def move(
        self,
        ctx: Context,
        consumer_uuid: str,
        allocations: dict[str, dict[str, int]],
        project_id: str,
        user_id: str,
    ) -> None:
        """Replace all the consumer's allocations by these. Raises InventoryExceeded when they don't fit."""

    def release(self, ctx: Context, consumer_uuid: str) -> None:
        """Delete the consumer's allocations. None there: no error."""

    def delete_provider(self, ctx: Context, provider_uuid: str) -> None:
        """Delete the provider. No provider: no error. Raises Conflict while it has allocations."""
