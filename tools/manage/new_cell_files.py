"""The texts that a new cell needs: SQL, RabbitMQ commands, configuration files, and the commands that come then."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path

KINDS = {"mysql": "mysql+pymysql", "postgresql": "postgresql"}
"""Of database servers, with the scheme of their URLs; mysql is also MariaDB."""
_ALL, _ROWS = "ALL", "SELECT, INSERT, UPDATE, DELETE"


@dataclass(frozen=True, slots=True)
class Account:
    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class NewCell:
    """`administrator` syncs schemas, `api` and `broker` are the accounts of global processes: these exist. The three
    passwords are new: of conductors at the database, of conductors and hosts at the queue and at Keystone."""

    name: str
    kind: str
    database_server: str
    queue_server: str
    auth_url: str
    administrator: Account
    api: Account
    broker: Account
    database_password: str = field(repr=False)
    queue_password: str = field(repr=False)
    service_password: str = field(repr=False)

    @property
    def database(self) -> str:
        return f"nova_{self.name.replace('-', '_')}"

    @property
    def account(self) -> str:
        """Of conductors at the database, of conductors and hosts at the queue and at Keystone."""
        return f"nova-{self.name}"

    @property
    def database_url(self) -> str:
        login = f"{self.account}:{self.database_password}"
        return f"{KINDS[self.kind]}://{login}@{self.database_server}/{self.database}"

    @property
    def queue_url(self) -> str:
        return f"rabbit://{self.account}:{self.queue_password}@{self.queue_server}/{self.name}"

    @property
    def mapped_database(self) -> str:
        """The URL in the cell's mapping: each process fills its own account in."""
        return f"{KINDS[self.kind]}://{{username}}:{{password}}@{self.database_server}/{self.database}"

    @property
    def mapped_queue(self) -> str:
        return f"rabbit://{{username}}:{{password}}@{self.queue_server}/{self.name}"


def files(cell: NewCell) -> dict[str, str]:
    """The text of each file, by its name."""
    sql = _mysql(cell) if cell.kind == "mysql" else _postgresql(cell)
    return {"database.sql": sql, "queue.sh": _queue(cell), "conductor.conf": _conductor(cell),
            "compute.conf": _compute(cell)}  # fmt: skip


def commands(cell: NewCell, directory: Path) -> list[str]:
    """The steps that are to be taken, in this order."""
    here = shlex.quote(str(directory))
    client = "mariadb" if cell.kind == "mysql" else "psql -v ON_ERROR_STOP=1 -d postgres"
    name = shlex.quote(cell.name)
    serve = "polycell service --config-file /etc/nova/nova.conf"
    urls = f"--transport-url '{cell.mapped_queue}' --database_connection '{cell.mapped_database}'"
    create = f"polycell-manage cell_v2 create_cell --disabled --name {name} {urls}"
    return [
        f"on {cell.database_server}: {client} < {here}/database.sql",
        f"on {cell.queue_server}: sh {here}/queue.sh",
        f"openstack user create --domain Default --password-prompt {cell.account}  (the password is in conductor.conf)",
        f"openstack role add --project service --user {cell.account} admin",
        f"openstack role add --project service --user {cell.account} service",
        create,
        f"polycell-manage db sync --cell_uuid {name}",
        f"conductor.conf to the cell's machine as /etc/nova/nova.conf; there: {serve} conductor",
        f"compute.conf to every host, with its own `host` and `my_ip`; there: {serve} compute",
        f"polycell-manage cell_v2 check --cell {name}",
        f"polycell-manage cell_v2 update_cell --cell_uuid {name} --enable",
    ]


def _mysql(cell: NewCell) -> str:
    database = f"`{cell.database}`"
    lines = ["-- For an administrator of the database server. May be run again.",
             f"CREATE DATABASE IF NOT EXISTS {database} CHARACTER SET utf8mb4;"]  # fmt: skip
    for account, rights in _grants(cell):
        user = f"{_text(account.user, backslash=True)}@'%'"
        lines.append(f"CREATE USER IF NOT EXISTS {user} IDENTIFIED BY {_text(account.password, backslash=True)};")
        lines.append(f"GRANT {rights} ON {database}.* TO {user};")
    return "\n".join(lines) + "\n"


def _postgresql(cell: NewCell) -> str:
    lines = ["-- For a superuser, with psql."]
    for account, _ in _grants(cell):
        made = f"CREATE ROLE {_identifier(account.user)} LOGIN PASSWORD {_text(account.password)}"
        known = f"EXISTS (SELECT FROM pg_roles WHERE rolname = {_text(account.user)})"
        lines.append(f"SELECT {_text(made)} WHERE NOT {known} \\gexec")
    owner = _identifier(cell.administrator.user)
    lines += [f"CREATE DATABASE {cell.database} OWNER {owner};", f"\\connect {cell.database}"]
    for account, rights in _grants(cell):
        if rights != _ALL:
            user = _identifier(account.user)
            default = f"ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public"
            lines.append(f"{default} GRANT {rights} ON TABLES TO {user};")
            lines.append(f"{default} GRANT USAGE, SELECT ON SEQUENCES TO {user};")
    return "\n".join(lines) + "\n"


def _grants(cell: NewCell) -> list[tuple[Account, str]]:
    """Each account with its rights; global processes may have the administrator's account."""
    found = [(cell.administrator, _ALL), (Account(cell.account, cell.database_password), _ROWS)]
    if cell.api.user != cell.administrator.user:
        found.append((cell.api, _ROWS))
    return found


def _queue(cell: NewCell) -> str:
    vhost = shlex.quote(cell.name)
    lines = [
        "#!/bin/sh",
        "# For root on the RabbitMQ server. May be run again. No password is on a command line.",
        "set -e",
    ]
    lines.append(f"rabbitmqctl add_vhost {vhost} || rabbitmqctl -q list_vhosts | grep -qxF -- {vhost}")
    for account in (cell.broker, Account(cell.account, cell.queue_password)):
        user = shlex.quote(account.user)
        known = f"rabbitmqctl -q list_users | cut -f1 | grep -qxF -- {user}"
        lines += [f"{known} || rabbitmqctl add_user {user} <<'PASSWORD'", account.password, "PASSWORD"]
        lines.append(f"rabbitmqctl set_permissions -p {vhost} {user} '.*' '.*' '.*'")
    return "\n".join(lines) + "\n"


def _conductor(cell: NewCell) -> str:
    return (
        f"[DEFAULT]\nhost = {cell.name}\ntransport_url = {cell.queue_url}\n\n"
        f"[database]\nconnection = {cell.database_url}\n\n"
        "[secrets]\n# keys = the same as at the top\n\n" + _peers(cell, "placement", "neutron", "glance")
    )


def _compute(cell: NewCell) -> str:
    return (
        "[DEFAULT]\n# host = unique in the whole cloud, and never changed\n# my_ip = the host's address\n"
        f"transport_url = {cell.queue_url}\ncompute_driver = libvirt.LibvirtDriver\nstate_path = /var/lib/nova\n\n"
        + _peers(cell, "placement", "neutron", "glance", "cinder")
    )


def _peers(cell: NewCell, *sections: str) -> str:
    account = (
        f"auth_url = {cell.auth_url}\nusername = {cell.account}\npassword = {cell.service_password}\n"
        "project_name = service\n"
    )
    return "\n".join(f"[{section}]\n{account}" for section in sections)


def _text(value: str, *, backslash: bool = False) -> str:
    """A text in SQL. `backslash`: MariaDB reads escapes in it."""
    quoted = value.replace("'", "''")
    return "'" + (quoted.replace("\\", "\\\\") if backslash else quoted) + "'"


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
