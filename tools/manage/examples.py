"""Two lines or more for each command of `polycell-manage` and `polycell-status`, without the program's name."""

from __future__ import annotations

_SERVER = "$SERVER"

EXAMPLES: dict[str, tuple[str, ...]] = {
    "api_db sync": ("api_db sync", "api_db sync --config-file /etc/nova/nova.conf"),
    "api_db version": ("api_db version", "api_db version -f json"),
    "db sync": ("db sync", "db sync --cell_uuid cell1", "db sync --local_cell"),
    "db version": ("db version", "db version --cell_uuid cell1 -f json"),
    "db archive_deleted_rows": (
        "db archive_deleted_rows --all-cells --until-complete",
        "db archive_deleted_rows --before 2026-01-31 --max_rows 5000",
    ),
    "db purge": ("db purge --before 2026-01-31 --all-cells", "db purge --all --dry-run"),
    "cell_v2 simple_cell_setup": (
        "cell_v2 simple_cell_setup",
        "cell_v2 simple_cell_setup --transport-url rabbit://nova@mq1/c1",
    ),
    "cell_v2 map_cell0": (
        "cell_v2 map_cell0",
        "cell_v2 map_cell0 --database_connection mysql://nova@db0/cell0",
    ),
    "cell_v2 map_cell_and_hosts": (
        "cell_v2 map_cell_and_hosts --name cell1",
        "cell_v2 map_cell_and_hosts --name cell1 --verbose",
    ),
    "cell_v2 init": (
        "cell_v2 init cell2",
        "cell_v2 init cell2 --database-host db2:3306 --queue-host mq2",
    ),
    "cell_v2 create_cell": (
        "cell_v2 create_cell --name cell1 --config-file cell1.conf",
        "cell_v2 create_cell --name cell2 --disabled --verbose",
    ),
    "cell_v2 update_cell": (
        "cell_v2 update_cell --cell_uuid cell1 --weight 50",
        "cell_v2 update_cell --cell_uuid cell1 --disable",
    ),
    "cell_v2 drain_cell": ("cell_v2 drain_cell --cell_uuid cell1", "cell_v2 drain_cell --cell_uuid 5a0b4c"),
    "cell_v2 list_cells": (
        "cell_v2 list_cells",
        "cell_v2 list_cells --detail --timeout 30",
        "cell_v2 list_cells --detail --watch 5",
    ),
    "cell_v2 delete_cell": (
        "cell_v2 delete_cell --cell_uuid cell2",
        "cell_v2 delete_cell --cell_uuid cell2 --force --dry-run",
    ),
    "cell_v2 check": ("cell_v2 check", "cell_v2 check --cell cell1 --repair --dry-run"),
    "cell_v2 recover": ("cell_v2 recover --cell cell7 --dry-run", "cell_v2 recover --cell cell7 --deleted"),
    "cell_v2 discover_hosts": ("cell_v2 discover_hosts", "cell_v2 discover_hosts --cell_uuid cell1 --verbose"),
    "cell_v2 list_hosts": ("cell_v2 list_hosts", "cell_v2 list_hosts --cell_uuid cell1 -f json"),
    "cell_v2 delete_host": (
        "cell_v2 delete_host --cell_uuid cell1 --host node7",
        "cell_v2 delete_host --cell_uuid 5a0b4c --host node7",
    ),
    "cell_v2 move_host": (
        "cell_v2 move_host --host node7 --to cell2",
        "cell_v2 move_host --host node7 --abort",
    ),
    "cell_v2 drain_host": ("cell_v2 drain_host --host node7", "cell_v2 drain_host --host node7 --cold --dry-run"),
    "cell_v2 evacuate_host": (
        "cell_v2 evacuate_host --host node7 --dry-run",
        "cell_v2 evacuate_host --host node7 --force-down",
    ),
    "cell_v2 map_instances": (
        "cell_v2 map_instances --cell_uuid cell1",
        "cell_v2 map_instances --cell_uuid cell1 --max-count 1000",
    ),
    "cell_v2 verify_instance": (
        f"cell_v2 verify_instance --uuid {_SERVER}",
        f"cell_v2 verify_instance --quiet --uuid {_SERVER}",
    ),
    "libvirt get_machine_type": (
        f"libvirt get_machine_type {_SERVER}",
        f"libvirt get_machine_type {_SERVER} -f json",
    ),
    "libvirt update_machine_type": (
        f"libvirt update_machine_type {_SERVER} pc-q35-7.2",
        f"libvirt update_machine_type --force {_SERVER} q35",
    ),
    "libvirt list_unset_machine_type": (
        "libvirt list_unset_machine_type",
        "libvirt list_unset_machine_type --cell_uuid cell1 -f json",
    ),
    "volume_attachment show": (
        f"volume_attachment show {_SERVER} $VOLUME",
        f"volume_attachment show {_SERVER} $VOLUME --connection_info",
    ),
    "volume_attachment refresh": (
        f"volume_attachment refresh {_SERVER} $VOLUME h1.json",
        f"volume_attachment refresh {_SERVER} $VOLUME h1.json -f json",
    ),
    "volume_attachment get_connector": (
        "volume_attachment get_connector",
        "volume_attachment get_connector -f json",
    ),
    "placement pin": ("placement pin acme --cell cell1", "placement pin acme --cell cell1 --cell cell2"),
    "placement unpin": ("placement unpin acme", "placement unpin acme --config-file /etc/nova/nova.conf"),
    "placement keep": ("placement keep cell2", "placement keep cell2 --project acme --project roadrunner"),
    "placement release": ("placement release cell2", "placement release cell2 --project acme"),
    "placement list": ("placement list", "placement list -f json"),
    "placement explain": (f"placement explain {_SERVER}", f"placement explain {_SERVER} -f json"),
    "placement capacity": (
        "placement capacity --flavor m1.small",
        "placement capacity --flavor m1.large --by host -f csv",
    ),
    "placement heal_allocations": (
        "placement heal_allocations --dry-run",
        f"placement heal_allocations --instance {_SERVER} --verbose",
        "placement heal_allocations --cell cell1 --max-count 1000",
    ),
    "placement audit": ("placement audit --verbose", "placement audit --delete"),
    "placement sync_aggregates": ("placement sync_aggregates --verbose", "placement sync_aggregates --prune"),
    "snapshot save": ("snapshot save /var/backups", "snapshot save before-upgrade.zip --skip-cell cell7"),
    "snapshot show": ("snapshot show before-upgrade.zip", "snapshot show before-upgrade.zip --tables -f json"),
    "snapshot restore": (
        "snapshot restore before-upgrade.zip --dry-run",
        "snapshot restore before-upgrade.zip --database cell7",
    ),
    "bench seed": ("bench seed --instances 1000", "bench seed --instances 50000 --cells cell1,cell2 --seed 7"),
    "bench unseed": ("bench unseed --dry-run", "bench unseed --cells cell1 --project bench --yes"),
    "upgrade check": ("upgrade check", "upgrade check --config-file /etc/nova/nova.conf -f json"),
}
