"""The command line of `polycell`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from tools.command_line import add_common, below_of, describe
from tools.services.compose import API_PORTS, ROLES

STATE = Path(".polycell")
Run = Callable[[argparse.Namespace], int]
_EXAMPLES = {
    "up": (
        "up --detach",
        "up --cells 3 --hosts-per-cell 4 --driver simulated",
        "up --state /tmp/second --port-base 28700",
    ),
    "down": ("down", "down --state /tmp/second --delete"),
    "status": ("status --wait 60", "status -f json"),
    "logs": ("logs cell1 -f", "logs cell1-host2 -n 200"),
    "shell": ("shell", "shell -- openstack server list", "shell --state /tmp/second -- openstack hypervisor list"),
    "debug": ("debug", "debug /tmp/bundle.tar.gz --state /tmp/second"),
    "service": (
        "service api --config-file /etc/nova/nova.conf --port 8774",
        "service compute --config-file /etc/nova/cell1.conf --host node7",
    ),
}


def parser_of_all(runs: Mapping[str, Run]) -> argparse.ArgumentParser:
    """The whole command line. `runs` has the function of each command, whose docstring is its help."""
    parser = add_common(argparse.ArgumentParser(prog="polycell"))
    describe(parser, "A compute cloud of cells on one machine.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="bring a cloud up, or go on with the one that is there, shaped as it was")
    _state(up)
    up.add_argument("--port-base", type=int, metavar="N", help="compute; the others follow (default: 18700)")
    up.add_argument("--cells", type=int, metavar="N", help="besides cell0 (default: 2)")
    up.add_argument("--hosts-per-cell", type=int, metavar="N", help="compute hosts in each cell (default: 2)")
    up.add_argument(
        "--driver", metavar="auto|simulated|libvirt", help="what hosts are (default: auto, libvirt where it works)"
    )
    up.add_argument("--libvirt-uri", metavar="URI",
                    help="one libvirt for all hosts, instead of a private one for each (root)")  # fmt: skip
    up.add_argument("--uplink", action=argparse.BooleanOptionalAction,
                    help="without, guests reach only each other, and nothing outside (default: with)")  # fmt: skip
    up.add_argument("--database", action="append", metavar="embedded|URL",
                    help="URL template with {cell} (api, cell0, cell1, …); again as NAME=URL for one"
                         " (default: embedded)")  # fmt: skip
    up.add_argument("--transport", action="append", metavar="embedded|URL",
                    help="URL template with {cell} (api, cell1, …); again as NAME=URL for one"
                         " (default: embedded)")  # fmt: skip
    up.add_argument("--cache", metavar="embedded|URL", help="memcached://host:port (default: embedded)")
    up.add_argument(
        "--auth",
        metavar="companion|noauth2|URL",
        help="the identity service (default: companion); a Keystone's URL: with the account of OS_USERNAME, …",
    )
    up.add_argument("--tls-cert", type=_file, metavar="FILE",
                    help="certificate (PEM, for 127.0.0.1) of all services; '' for plain HTTP")  # fmt: skip
    up.add_argument("--tls-key", type=_file, metavar="FILE", help="its key, unless it is in the same file")
    up.add_argument(
        "--tls-ca", type=_file, metavar="FILE", help="who signed it, unless it is self-signed or well known"
    )
    up.add_argument("--workers", type=int, metavar="N", help="API processes, with --processes (default: 1)")
    up.add_argument(
        "--processes", action=argparse.BooleanOptionalAction, help="a process for each service (default: one for all)"
    )
    up.add_argument("--detach", action="store_true", help="return when it is READY")
    down = commands.add_parser("down", help="stop the cloud; its data stay")
    _state(down)
    down.add_argument("--delete", action="store_true", help="delete its data, logs and configuration as well")
    status = commands.add_parser("status", help="cells, hosts, instances and health")
    _state(status)
    status.add_argument("-f", "--format", choices=["table", "json"], default="table", help="how it is printed")
    status.add_argument("--wait", type=float, default=0, metavar="SECONDS", help="until it is healthy, so long at most")
    show = commands.add_parser("logs", help="what the services have logged")
    show.add_argument("name", nargs="?", default="", metavar="ROLE|CELL|HOST", help="only this one's (all)")
    _state(show)
    show.add_argument("-n", "--lines", type=int, default=50, metavar="N", help="the last ones of each log")
    show.add_argument("-f", "--follow", action="store_true", help="print what comes, until Ctrl-C")
    shell = commands.add_parser("shell", help="a shell, or one command, as the cloud's administrator")
    _state(shell)
    shell.add_argument("command", nargs=argparse.REMAINDER, help="after `--`: only this one (default: $SHELL)")
    debug = commands.add_parser("debug", help="one file with all that a developer must know, without secrets")
    debug.add_argument("file", nargs="?", type=Path, metavar="FILE",
                       help="where to (default: polycell-debug-DATE.tar.gz here)")  # fmt: skip
    _state(debug)
    service = commands.add_parser("service", help="one service of an installation, in the foreground")
    ports = ", ".join(f"{name} {port}" for name, port in API_PORTS.items())
    service.add_argument("role", choices=ROLES, metavar="ROLE", help=", ".join(ROLES))
    service.add_argument("--config-file", action="append", required=True, metavar="FILE", help="later ones win")
    service.add_argument("--host", default="", metavar="HOST", help="in place of [DEFAULT] host")
    service.add_argument(
        "--port",
        type=int,
        default=0,
        metavar="N",
        help=f"where an API listens (default: {ports})",
    )
    service.add_argument("--address", default="", metavar="ADDRESS", help="where it listens (default: 127.0.0.1)")
    service.add_argument("--title", default="", metavar="TEXT", help="what the process is called, after `polycell: `")
    for name, each in below_of(parser).items():
        describe(each, runs[name].__doc__ or "", _EXAMPLES[name])
        each.set_defaults(run=runs[name])
    return parser


def _file(text: str) -> str:
    """The absolute path, "" for none: a later launcher may run elsewhere."""
    return str(Path(text).resolve()) if text else ""


def _state(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--state", type=Path, default=STATE, metavar="DIR", help="where the cloud is kept")
