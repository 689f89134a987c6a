"""A guest's demands of its hardware, and the machine type that meets them."""

from __future__ import annotations

from cell_service.errors import DriverError, Invalid
from cell_service.model import hardware
from cell_service.model.hardware import Hardware
from compute_host.virt.driver import GuestSpec
from compute_host.virt.libvirt.domain.values import Choices


def of_guest(spec: GuestSpec) -> Hardware:
    """Raises DriverError for values that contradict each other: the API refuses them, but not those of older guests."""
    try:
        return hardware.of(spec.instance.flavor, spec.image_properties)
    except Invalid as error:
        raise DriverError(reason=str(error)) from error


def machine_type(wanted: Hardware, choices: Choices) -> str:
    """The image's machine type, or the host's; q35 where nothing else will do."""
    if wanted.machine is not None:
        return wanted.machine
    return "q35" if wanted.needs_q35 and "q35" not in choices.machine else choices.machine
