"""The command `polycell`: one function for each of its commands. It imports nothing before `main` can answer Ctrl-C."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import argparse


def main(argv: list[str] | None = None) -> int:
    """Run a command. Errors that a user can cause are one line, and status 1; Ctrl-C is one line, and 130."""
    try:
        return _run(argv)
    except KeyboardInterrupt:
        print("polycell: stopping", file=sys.stderr)
        return 130


def _run(argv: list[str] | None) -> int:
    from cell_service import logs
    from cell_service.errors import PolycellError
    from tools.up.arguments import parser_of_all

    args = parser_of_all(RUNS).parse_args(argv)
    try:
        return int(args.run(args))
    except PolycellError as error:
        print(f"polycell: {logs.masked(str(error))}", file=sys.stderr)
        return 1


def _up(args: argparse.Namespace) -> int:
    """Bring a cloud up, or go on with the one that is there, shaped as it was. 0 it was stopped again (with
    --detach: it is READY); 1 it could not be brought up; 130 interrupted."""
    from tools.up import shape
    from tools.up.launch import up

    return up(shape.options(args.state.resolve(), vars(args)), detach=args.detach)


def _down(args: argparse.Namespace) -> int:
    """Stop the cloud; its data stay. 0 nothing of it runs now; 1 it could not be stopped."""
    import shutil

    from cell_service.errors import Invalid
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
    """Say how cells, hosts, instances and services are. 0 healthy; 1 something is down, or there is no cloud; 2
    nothing runs."""
    from tools.up.status import status

    return status(args.state.resolve(), args.format, wait_seconds=args.wait)


def _logs(args: argparse.Namespace) -> int:
    """Print what the services have logged. 0 printed; 1 there is no such cloud; 130 interrupted."""
    from tools.up.show_logs import show

    return show(args.state.resolve(), args.name, args.lines, follow=args.follow)


def _shell(args: argparse.Namespace) -> NoReturn:
    """Open a shell that has the client on its path and the credentials of the cloud's administrator, or run one command
    so; its exit code is passed on. 0 it has succeeded; 1 it has failed, or no cloud runs there; 127 there is no such
    command."""
    from tools.up.shell import replace_by

    replace_by(args.state.resolve(), args.command)


def _debug(args: argparse.Namespace) -> int:
    """Write a bundle (tar.gz) of what is known of the cloud: versions, configuration, the ends of the logs, how its
    cells are, what the APIs have counted, which processes run, and what their threads do just now. Passwords and keys
    in it are replaced by ***; what cannot be had is named in its index. 0 written; 1 there is no cloud, or the file
    cannot be made; 130 interrupted."""
    from tools.up.debug import debug

    return debug(args.state.resolve(), args.file)


def _service(args: argparse.Namespace) -> int:
    """Run one service of an installation in the foreground, until SIGTERM or Ctrl-C. 0 stopped; 1 it could not
    start."""
    from tools.services.run import run

    return run(args)


RUNS = {
    "up": _up,
    "down": _down,
    "status": _status,
    "logs": _logs,
    "shell": _shell,
    "debug": _debug,
    "service": _service,
}


if __name__ == "__main__":
    sys.exit(main())
