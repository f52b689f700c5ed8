"""miner devices: what this machine can mine with, and why not with the rest."""

import argparse
import dataclasses
import json
import sys
import time
from functools import partial

from miner.backends import DeviceInfo, devices, open_backend
from miner.errors import DeviceError
from miner.waiting import wait_for


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "devices",
        help="list the devices, usable or not",
        description="List every device kind, and in words why one cannot be used.",
    )
    parser.add_argument(
        "--test", action="store_true", help="open each usable device, which runs its self-test"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON array")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """3 if a device fails its self-test, else 0."""
    silent, verdicts = arguments.json or not sys.stderr.isatty(), dict[str, str]()
    if arguments.test:
        verdicts = {info.name: _test(info, silent) for info in devices() if info.available}
    # Asked after the tests: a device that was compiled for them has more to say.
    rows = [dataclasses.asdict(info) for info in devices()]
    for row in rows:
        if row["name"] in verdicts:
            row["test"] = verdicts[row["name"]]
    if arguments.json:
        print(json.dumps(rows, indent=2))
    else:
        _print_table(rows)
    return 0 if all(verdict.startswith("passed") for verdict in verdicts.values()) else 3


def _test(info: DeviceInfo, silent: bool) -> str:
    def show(seconds: float) -> None:
        if not silent:
            print(f"testing {info.name} ... {seconds:.0f} s", end="\r", file=sys.stderr, flush=True)

    began = time.monotonic()
    try:
        backend = wait_for(partial(open_backend, info.name), show)
    except DeviceError as error:
        return f"FAILED: {error}"
    seconds = time.monotonic() - began
    backend.close()
    return f"passed its self-test, opened in {seconds:.1f} s"


def _print_table(rows: list[dict[str, object]]) -> None:
    width = max(len(str(row["name"])) for row in rows)
    for row in rows:
        mark = "usable     " if row["available"] else "unavailable"
        words = row["description"] if row["available"] else row["reason"]
        print(f"{row['name']!s:<{width}}  {mark}  {words}")
        if "test" in row:
            print(f"{'':<{width}}               {row['test']}")
