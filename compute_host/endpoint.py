"""The implementation of the Compute contract."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from cell_service.consoles.config import ConsoleSettings
from cell_service.context import Context
from cell_service.errors import ConsoleTypeUnavailable, GuestNotFound, InstanceNotFound, NotSupported
from cell_service.model.console import ConsolePlace
from cell_service.model.diagnostics import GuestDiagnostics
from cell_service.model.host import PowerAction
from cell_service.model.migration import OutgoingMigration
from cell_service.rpc.compute import Compute
from compute_host.plugging import Plugging
from compute_host.virt.driver import (
    Attachable,
    ConsoleLog,
    Diagnosable,
    Driver,
    HostSwitch,
    LiveMigrations,
    Maintainable,
    RemoteConsoles,
    VolumeSnapshots,
)


class ComputeEndpoint(Compute):
    """`claim` is called when there may be work, `join` with the queue and the name of another cell."""

    def __init__(
        self,
        driver: Driver,
        claim: Callable[[], None],
        join: Callable[[str, str], None],
        plugging: Plugging,
        consoles: ConsoleSettings | None = None,
        cache: Callable[[tuple[str, ...]], None] = lambda _ids: None,
    ) -> None:
        self._cache = cache
        self._consoles = consoles or ConsoleSettings()
        self._driver = driver
        self._plugging = plugging
        self._claim = claim
        self._join = join

    def wake(self, ctx: Context) -> None:
        self._claim()

    def port_event(self, ctx: Context, instance_uuid: str, port_id: str, failed: bool) -> None:
        self._plugging.reported(instance_uuid, port_id, failed=failed)

    def get_console_output(self, ctx: Context, instance_uuid: str, tail_length: int | None) -> str:
        if not isinstance(self._driver, ConsoleLog):
            raise NotSupported(reason="This host keeps no console logs.")
        try:
            output = self._driver.console_output(instance_uuid)
        except GuestNotFound:
            raise InstanceNotFound(instance_id=instance_uuid) from None
        if tail_length is None:
            return output
        return "\n".join(output.split("\n")[-tail_length:]) if tail_length > 0 else ""

    def get_diagnostics(self, ctx: Context, instance_uuid: str) -> GuestDiagnostics:
        if not isinstance(self._driver, Diagnosable):
            raise NotSupported(reason="This host's hypervisor tells nothing about its guests.")
        try:
            return self._driver.diagnostics(instance_uuid)
        except GuestNotFound:
            raise InstanceNotFound(instance_id=instance_uuid) from None

    def cache_images(self, ctx: Context, image_ids: tuple[str, ...]) -> None:
        self._cache(image_ids)

    def get_console(self, ctx: Context, instance_uuid: str, kind: str) -> ConsolePlace:
        base_url = self._consoles.base_url(kind)
        if base_url is None:
            raise ConsoleTypeUnavailable(console_type=kind)
        if not isinstance(self._driver, RemoteConsoles):
            raise NotSupported(reason="Guests of this host have no consoles.")
        try:
            return replace(self._driver.remote_console(instance_uuid, kind), base_url=base_url)
        except GuestNotFound:
            raise InstanceNotFound(instance_id=instance_uuid) from None

    def get_sending(self, ctx: Context, instance_uuid: str) -> OutgoingMigration | None:
        return self._live_migrations().outgoing_migration(instance_uuid)

    def steer_sending(self, ctx: Context, instance_uuid: str, finish: bool) -> bool:
        return self._live_migrations().steer_migration(instance_uuid, finish=finish)

    def power_host(self, ctx: Context, action: PowerAction) -> None:
        if not isinstance(self._driver, HostSwitch):
            raise NotSupported(reason="This host cannot switch itself off or on.")
        self._driver.switch_host(action)

    def set_maintenance(self, ctx: Context, on: bool) -> None:
        if not isinstance(self._driver, Maintainable):
            raise NotSupported(reason="This host has no maintenance mode.")
        self._driver.set_maintenance(on)

    def demand_volume_snapshots(self, ctx: Context) -> None:
        if not isinstance(self._driver, VolumeSnapshots):
            raise NotSupported(reason="The host of this volume cannot take assisted snapshots.")

    def disconnect_volume(self, ctx: Context, instance_uuid: str, volume_id: str) -> None:
        if not isinstance(self._driver, Attachable):
            raise NotSupported(reason="Guests of this host cannot have volumes.")
        try:
            self._driver.disconnect_volume(instance_uuid, volume_id)
        except GuestNotFound:
            raise InstanceNotFound(instance_id=instance_uuid) from None

    def join_cell(self, ctx: Context, transport_url: str, cell_name: str) -> None:
        self._join(transport_url, cell_name)

    def _live_migrations(self) -> LiveMigrations:
        """Raises NotSupported."""
        if not isinstance(self._driver, LiveMigrations):
            raise NotSupported(reason="Live migrations of this host cannot be steered.")
        return self._driver
