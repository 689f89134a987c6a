"""The files of a config drive: the service's documents of every version, and those that only the drive has."""

from __future__ import annotations

import json

from cell_service.metadata import documents, ec2
from cell_service.metadata.content import Content
from cell_service.metadata.documents import LATEST, PASSWORD


def drive_files(content: Content, skip: frozenset[str] = frozenset()) -> dict[str, bytes]:
    """Relative path → bytes, without the versions to `skip`."""
    made = {}
    for version in (*documents.VERSIONS, LATEST):
        date = documents.dated(version)
        if version in skip or date is None:
            continue
        for name in documents.listing(content, date):
            document = documents.document(content, date, name)
            if name != PASSWORD and document is not None:
                made[f"openstack/{version}/{name}"] = document
    for name, document in documents.content_files(content).items():
        made[f"openstack/content/{name}"] = document
    for version in (*ec2.VERSIONS, LATEST):
        date = ec2.dated(version)
        if version in skip or date is None:
            continue
        made[f"ec2/{version}/meta-data.json"] = json.dumps(ec2.meta_data(content, date)).encode()
        if content.instance.user_data:
            made[f"ec2/{version}/user-data"] = documents.user_data_of(content.instance)
    return made
