"""Errors of choosing hosts and of hypervisors."""

from __future__ import annotations

from typing import ClassVar

from cell_service.errors.families import PolycellError


class NoValidHost(PolycellError):
    """No host can take the instance. `reason` counts the hosts that each filter refused, and why: users see `SUMMARY`,
    and the reason is in the details of the fault, for callers who may see hosts.
    """

    SUMMARY: ClassVar[str] = "No valid host was found."
    status = 500
    message = "No valid host was found. {reason}"


class NoHostYet(NoValidHost):
    """Hosts that could take it count as down, but may only have been out of reach of their cell's conductors."""


class MaxRetriesExceeded(NoValidHost):
    message = (
        "Exceeded maximum number of retries. Exhausted all hosts available for retrying build failures "
        "for instance {instance_uuid}."
    )


class DriverError(PolycellError):
    """The hypervisor failed; another host may succeed."""

    message = "{reason}"


class InterfaceAttachFailed(PolycellError):
    message = "Failed to attach the network interface. {reason}"


class HypervisorFailed(DriverError):
    """The hypervisor's own words are for the operator."""

    public = "The hypervisor failed."


class HypervisorAway(HypervisorFailed):
    """The hypervisor does not answer: whether it has done what was requested is not known."""


class HostOutOfSpace(DriverError):
    """The host lacks memory, CPU or disk for the guest, whatever the scheduler thought."""


class ImageUnacceptable(DriverError):
    """The image is not what it claims to be, or does not fit; no host can do better."""

    message = "Image {image_id} is unacceptable: {reason}"


class GuestNotFound(DriverError):
    """The hypervisor has no guest with this uuid."""

    message = "Guest {uuid} does not exist on this host."
