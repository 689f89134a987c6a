"""Errors about things of the Compute API that do not exist."""

from __future__ import annotations

from cell_service.errors.families import NotFound


class InstanceNotFound(NotFound):
    message = "Instance {instance_id} could not be found."


class FlavorNotFound(NotFound):
    message = "Flavor {flavor_id} could not be found."


class FlavorExtraSpecNotFound(NotFound):
    message = "Flavor {flavor_id} has no extra specs with key {key}."


class FlavorAccessNotFound(NotFound):
    message = "Flavor access not found for {flavor_id} / {project_id} combination."


class VolumeNotFound(NotFound):
    message = "Volume {volume_id} could not be found."


class KeyNotFound(NotFound):
    """A key that the key manager does not have, or does not show to our account."""

    message = "Key {key_id} is not in the key manager."


class SnapshotNotFound(NotFound):
    message = "Snapshot {snapshot_id} could not be found."


class ImageNotFound(NotFound):
    message = "Image {image_id} could not be found."


class ShareNotFound(NotFound):
    message = "Share {share_id} could not be found."


class ShareMappingNotFound(NotFound):
    message = "Share {share_id} is not attached to instance {instance_uuid}."


class ConsoleTokenNotFound(NotFound):
    message = "Token not found"


class KeypairNotFound(NotFound):
    message = "Keypair {name} not found for user {user_id}"


class NetworkNotFound(NotFound):
    message = "Network {network_id} could not be found."


class PortNotFound(NotFound):
    message = "Port id {port_id} could not be found."


class SecurityGroupNotFound(NotFound):
    message = "Security group {name} not found for project {project_id}."


class ServiceNotFound(NotFound):
    message = "Service {service_id} could not be found."


class ComputeHostNotFound(NotFound):
    message = "Compute host {host} could not be found."


class HostMappingNotFound(NotFound):
    message = "Host '{host}' is not mapped to any cell"


class CellMappingNotFound(NotFound):
    message = "Cell {cell} doesn't exist."


class InstanceMappingNotFound(NotFound):
    message = "Instance {instance_uuid} has no mapping to a cell."


class ServerGroupNotFound(NotFound):
    message = "Instance group {group_uuid} could not be found."


class ActionNotFound(NotFound):
    message = "Action for request_id {request_id} on instance {instance_uuid} not found"


class MigrationNotFoundForServer(NotFound):
    message = "Live migration {migration_id} of server {instance_uuid} is not in progress."


class TagNotFound(NotFound):
    message = "Instance {instance_uuid} has no tag '{tag}'"


class MetadataItemNotFound(NotFound):
    message = "Metadata item was not found"


class AggregateNotFound(NotFound):
    message = "Aggregate {aggregate_id} could not be found."


class AggregateHostNotFound(NotFound):
    message = "Aggregate {aggregate_id} has no host {host}."
