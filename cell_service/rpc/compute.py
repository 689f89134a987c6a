"""The messages of a compute agent, on its cell's queue, topic `compute.<host>`."""

from __future__ import annotations

from cell_service.context import Context
from cell_service.model.console import ConsolePlace
from cell_service.model.diagnostics import GuestDiagnostics
from cell_service.model.host import PowerAction
from cell_service.model.migration import OutgoingMigration
from cell_service.rpc.contract import Contract, call, cast


class Compute(Contract):
    """The agent of one host. Work itself travels in operations, which the agent claims from its conductor."""

    topic = "compute"

    @cast
    def wake(self, ctx: Context) -> None:
        """Claim the host's work now rather than at the next poll."""
        raise NotImplementedError

    @cast
    def port_event(self, ctx: Context, instance_uuid: str, port_id: str, failed: bool) -> None:
        """Record that the network service has plugged a port of the instance, or could not."""
        raise NotImplementedError

    @call(seconds=30, idempotent=True)
    def get_console_output(self, ctx: Context, instance_uuid: str, tail_length: int | None) -> str:
        """The last lines of the guest's console log (all for None). Raises InstanceNotFound, NotSupported."""
        raise NotImplementedError

    @call(seconds=30, idempotent=True)
    def get_diagnostics(self, ctx: Context, instance_uuid: str) -> GuestDiagnostics:
        """The guest's diagnostics as of now. Raises InstanceNotFound, NotSupported, DriverError."""
        raise NotImplementedError

    @cast
    def cache_images(self, ctx: Context, image_ids: tuple[str, ...]) -> None:
        """Fetch the images, so that builds from them begin at once. Message lost: the first build fetches them."""
        raise NotImplementedError

    @call(seconds=30, idempotent=True)
    def get_console(self, ctx: Context, instance_uuid: str, kind: str) -> ConsolePlace:
        """The place of the guest's console of that kind. Raises InstanceNotFound, ConsoleTypeUnavailable,
        NotSupported."""
        raise NotImplementedError

    @call(seconds=10, idempotent=True)
    def get_sending(self, ctx: Context, instance_uuid: str) -> OutgoingMigration | None:
        """The progress of the guest's outgoing migration; None when there is none. Raises NotSupported."""
        raise NotImplementedError

    @call(seconds=10, idempotent=True)
    def steer_sending(self, ctx: Context, instance_uuid: str, finish: bool) -> bool:
        """End the guest's outgoing migration as soon as possible: force-complete (`finish`) or abort it. False: there
        is none now. Raises NotSupported."""
        raise NotImplementedError

    @call(seconds=10, idempotent=True)
    def power_host(self, ctx: Context, action: PowerAction) -> None:
        """Switch the host off, or start it; its guests that ran are off now. Nothing happens when it is so already.
        Raises NotSupported, Invalid (a reboot of a host that is off), DriverError."""
        raise NotImplementedError

    @call(seconds=10, idempotent=True)
    def set_maintenance(self, ctx: Context, on: bool) -> None:
        """Let the host take no new guests; with `on` false let it take them again. Nothing happens when it is so
        already. Raises NotSupported, DriverError."""
        raise NotImplementedError

    @call(seconds=10, idempotent=True)
    def demand_volume_snapshots(self, ctx: Context) -> None:
        """Raises NotSupported unless the host can take snapshots of volumes that are files."""
        raise NotImplementedError

    @call(seconds=60, idempotent=True)
    def disconnect_volume(self, ctx: Context, instance_uuid: str, volume_id: str) -> None:
        """Disconnect the host from the volume of a guest that is off; it is connected again when the guest starts. Not
        connected: nothing happens. Raises InstanceNotFound, NotSupported, DriverError (also when the guest runs)."""
        raise NotImplementedError

    @call(seconds=10, idempotent=True)
    def join_cell(self, ctx: Context, transport_url: str, cell_name: str) -> None:
        """Move the host to the cell with that queue: it changes as soon as it has ended the operations that it has
        claimed, and belongs there after every start. A repeated call changes nothing. Raises NotSupported, Invalid."""
        raise NotImplementedError
