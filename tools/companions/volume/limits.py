"""Zones, limits, quotas, transfers: as far as clients read them."""

from __future__ import annotations

from cell_service.db.sql.engine import Database
from cell_service.http.response import Response
from tools.companions.route import CompanionRequest
from tools.companions.volume import store
from tools.companions.volume.visibility import project_of


class Limits:
    """No project has a quota here."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def zones(self, req: CompanionRequest) -> Response:
        return Response(200, {"availabilityZoneInfo": [{"zoneName": "nova", "zoneState": {"available": True}}]})

    def limits(self, req: CompanionRequest) -> Response:
        with self._db.connect() as tx:
            found = store.search(tx, "volume", project_id=project_of(req))
            snapshots = store.search(tx, "snapshot", project_id=project_of(req))
        used = {
            "totalVolumesUsed": len(found), "totalSnapshotsUsed": len(snapshots), "totalBackupsUsed": 0,
            "totalGigabytesUsed": sum(one["size"] for one in (*found, *snapshots)), "totalBackupGigabytesUsed": 0,
        }  # fmt: skip
        most = ("Volumes", "Snapshots", "VolumeGigabytes", "Backups", "BackupGigabytes")
        absolute = {**{f"maxTotal{name}": -1 for name in most}, **used}
        return Response(200, {"limits": {"rate": [], "absolute": absolute}})

    def reset_quotas(self, req: CompanionRequest) -> Response:
        """Give the project the default quotas, as all have."""
        req.demand_admin()
        return Response(200)

    def quotas(self, req: CompanionRequest) -> Response:
        return Response(
            200, {"quota_set": {"id": req.params["target"], "volumes": -1, "snapshots": -1, "gigabytes": -1}}
        )

    def transfers(self, req: CompanionRequest) -> Response:
        """None: volumes are not passed on to other projects here."""
        return Response(200, {"transfers": []})
