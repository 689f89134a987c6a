"""The messages of super-conductors, on the global queue, topic `super-conductor`."""

from __future__ import annotations

from cell_service.context import Context
from cell_service.rpc.contract import Contract, cast


class SuperConductor(Contract):
    """Any super-conductor. Messages only wake it: what is to be done is recorded in the global database."""

    topic = "super-conductor"

    @cast
    def build(self, ctx: Context, instance_uuids: tuple[str, ...]) -> None:
        """Place the build requests for these instances."""
        raise NotImplementedError

    @cast
    def move(self, ctx: Context, move_uuids: tuple[str, ...]) -> None:
        """Go on with these moves."""
        raise NotImplementedError

    @cast
    def see_through_deletes(self, ctx: Context, instance_uuids: tuple[str, ...]) -> None:
        """See through the accepted deletes of these instances, of which their cells may not know yet."""
        raise NotImplementedError
