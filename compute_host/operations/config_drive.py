"""The content of the config drives of this host's guests."""

from __future__ import annotations

from cell_service.context import Context
from cell_service.metadata.config import MetadataSettings
from cell_service.metadata.content import Content, new_seed
from cell_service.metadata.drive import drive_files
from cell_service.metadata.vendordata import VendorData
from cell_service.model.instance import Instance, Vif
from cell_service.model.operation import BuildArguments
from compute_host.virt.driver import DriveFile


class ConfigDrives:
    """A DriveMaker: a call returns the files. Raises PeerUnavailable where required vendor data is missing."""

    def __init__(self, settings: MetadataSettings) -> None:
        self._settings = settings
        self._vendor = VendorData(settings)

    def __call__(
        self, ctx: Context, instance: Instance, nics: tuple[Vif, ...], build: BuildArguments
    ) -> tuple[DriveFile, ...]:
        bare = Content(
            instance,
            nics,
            new_seed(),
            self._settings.api.dhcp_domain,
            injected_files=build.injected_files,
            admin_password=build.admin_password,
        )
        content = bare.with_vendor(self._vendor.about(ctx, bare))
        files = drive_files(content, self._settings.skipped_versions)
        return tuple(DriveFile(path, content) for path, content in files.items())

    def close(self) -> None:
        """Send no more requests."""
        self._vendor.close()
