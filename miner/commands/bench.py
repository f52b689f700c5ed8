"""miner bench: the same as `python -m bench`, which is a package of its own above this one."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

_ROOT = str(Path(__file__).resolve().parents[2])


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the command; its options are the benchmark's own."""
    parser = subparsers.add_parser(
        "bench",
        help="measure hash rates, with proof",
        description="The same as `python -m bench`.",
        add_help=False,
        prefix_chars="\0",  # every option belongs to the benchmark
    )
    parser.add_argument("options", nargs="*", help="see `python -m bench --help`")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """The benchmark's own exit status. A process of its own: layers point one way, bench -> miner."""
    # -P and the path: a folder called bench in the current directory, which is common, is not ours.
    path = os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-P", "-m", "bench", *arguments.options]
    return subprocess.call(command, env=os.environ | {"PYTHONPATH": path})
