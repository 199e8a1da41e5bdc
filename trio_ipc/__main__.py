"""``python -m trio_ipc demo``: what the library is for, in a few seconds."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; what it returns is the exit status."""
    options = _parse(argv)
    if sys.platform == "win32":
        print(
            "The demo can't run on Windows: trio_ipc hands sockets over through Unix sockets.",
            file=sys.stderr,
        )
        return 2
    from . import _demo  # not before: on Windows there is nothing to import

    return trio.run(_demo.run, options.port, options.keep, options.json)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m trio_ipc", description=__doc__)
    commands = parser.add_subparsers(metavar="command", required=True)
    demo = commands.add_parser(
        "demo",
        help="show what the library is for, with real processes and real connections",
        description="Show what the library is for, with real processes and real connections."
        " Exit status 0 means that every step did what it says.",
    )
    demo.add_argument(
        "--port",
        type=_port,
        default=0,
        metavar="N",
        help="listen on this port of 127.0.0.1, and not on one that happens to be free",
    )
    demo.add_argument(
        "--keep",
        action="store_true",
        help="go on serving after the steps, until Ctrl-C: try the hand-over with curl or nc",
    )
    demo.add_argument(
        "--json", action="store_true", help="print a summary as JSON, and nothing else"
    )
    return parser.parse_args(argv)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError("a port is a number from 0 to 65535")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
