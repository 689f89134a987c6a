"""The command `polycell`: up, down, status, logs, service."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from cell_service import logs
from cell_service.errors import Invalid, PolycellError
from tools import version

STATE = Path(".polycell")


def main(argv: list[str] | None = None) -> int:
    """Run a command. Errors that a user can cause are one line, and status 1."""
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        return int(args.run(args))
    except PolycellError as error:
        print(f"polycell: {logs.masked(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("polycell: stopped", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="polycell", description="A compute cloud of cells on one machine.")
    parser.add_argument("--version", action="version", version=f"polycell {version.installed()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="bring a cloud up, or go on with the one that is there, shaped as it was")
    _state(up)
    up.add_argument("--port-base", type=int, metavar="N", help="compute; the others follow (18700)")
    up.add_argument("--cells", type=int, metavar="N", help="besides cell0 (2)")
    up.add_argument("--hosts-per-cell", type=int, metavar="N", help="compute hosts in each cell (2)")
    up.add_argument("--driver", metavar="auto|simulated|libvirt", help="what hosts are (libvirt where it works)")
    up.add_argument("--libvirt-uri", metavar="URI",
                    help="one libvirt for all hosts, instead of a private one for each (root)")  # fmt: skip
    up.add_argument("--uplink", action=argparse.BooleanOptionalAction,
                    help="without, guests reach only each other, and nothing outside")  # fmt: skip
    up.add_argument("--database", action="append", metavar="embedded|URL",
                    help="URL template with {cell} (api, cell0, cell1, …); again as NAME=URL for one")  # fmt: skip
    up.add_argument("--transport", action="append", metavar="embedded|URL",
                    help="URL template with {cell} (api, cell1, …); again as NAME=URL for one of them")  # fmt: skip
    up.add_argument("--cache", metavar="embedded|URL", help="memcached://host:port (embedded)")
    up.add_argument(
        "--auth",
        metavar="companion|noauth2|URL",
        help="the identity service (companion); a Keystone's URL: with the account of OS_USERNAME, …",
    )
    up.add_argument("--tls-cert", type=_file, metavar="FILE",
                    help="certificate (PEM, for 127.0.0.1) of all services; '' for plain HTTP")  # fmt: skip
    up.add_argument("--tls-key", type=_file, metavar="FILE", help="its key, unless it is in the same file")
    up.add_argument(
        "--tls-ca", type=_file, metavar="FILE", help="who signed it, unless it is self-signed or well known"
    )
    up.add_argument("--workers", type=int, metavar="N", help="API processes, with --processes (1)")
    up.add_argument("--processes", action=argparse.BooleanOptionalAction, help="a process for each service")
    up.add_argument("--detach", action="store_true", help="return when it is READY")
    up.set_defaults(run=_up)
    down = commands.add_parser("down", help="stop the cloud; its data stay")
    _state(down)
    down.add_argument("--delete", action="store_true", help="delete its data, logs and configuration as well")
    down.set_defaults(run=_down)
    status = commands.add_parser("status", help="cells, hosts, instances and health")
    _state(status)
    status.add_argument("-f", "--format", choices=["table", "json"], default="table")
    status.add_argument(
        "--wait", type=float, default=0, metavar="SECONDS", help="until it is healthy, so long at most (0)"
    )
    status.set_defaults(run=_status)
    show = commands.add_parser("logs", help="what the services have logged")
    show.add_argument("name", nargs="?", default="", metavar="ROLE|CELL|HOST", help="only this one's (all)")
    _state(show)
    show.add_argument("-n", "--lines", type=int, default=50, metavar="N", help="the last ones of each log (50)")
    show.add_argument("-f", "--follow", action="store_true", help="print what comes, until Ctrl-C")
    show.set_defaults(run=_logs)
    service = commands.add_parser("service", help="one service of an installation, in the foreground")
    from tools.services.run import add_arguments

    add_arguments(service)
    service.set_defaults(run=_service)
    return parser


def _file(text: str) -> str:
    """The absolute path, "" for none: a later launcher may run elsewhere."""
    return str(Path(text).resolve()) if text else ""


def _state(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--state", type=Path, default=STATE, metavar="DIR", help=f"where the cloud is kept ({STATE})")


def _up(args: argparse.Namespace) -> int:
    from tools.up import shape
    from tools.up.launch import up

    return up(shape.options(args.state.resolve(), vars(args)), detach=args.detach)


def _down(args: argparse.Namespace) -> int:
    from tools.up import record
    from tools.up.launch import end

    state = args.state.resolve()
    try:
        running, is_cloud = record.living(record.read(state)), True
    except Invalid:
        running, is_cloud = [], False
    launcher = [each for each in running if each.role == "launcher"]
    end(launcher, grace_seconds=60.0)
    end(running, grace_seconds=10.0)
    print(f"stopped {len(running)} processes of {state}" if running else f"nothing runs in {state}")
    if args.delete and is_cloud:
        shutil.rmtree(state)
        print(f"deleted {state}")
    return 0


def _status(args: argparse.Namespace) -> int:
    from tools.up.status import status

    return status(args.state.resolve(), args.format, wait_seconds=args.wait)


def _logs(args: argparse.Namespace) -> int:
    from tools.up.show_logs import show

    return show(args.state.resolve(), args.name, args.lines, follow=args.follow)


def _service(args: argparse.Namespace) -> int:
    from tools.services.run import run

    return run(args)


if __name__ == "__main__":
    sys.exit(main())
