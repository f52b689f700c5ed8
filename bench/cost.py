"""`python -m bench cost`: how many operations a hash takes, counted in the program, not timed."""

import argparse
from collections.abc import Sequence

from kernels.program import Cost
from kernels.search import VERSIONS, search


def main(argv: Sequence[str] | None = None) -> int:
    """Print operations per nonce and version; with --versions N also where they come from."""
    parser = argparse.ArgumentParser(prog="python -m bench cost", description=__doc__)
    parser.add_argument("--versions", type=int, choices=VERSIONS, help="so many siblings, by level")
    parser.add_argument("--listing", action="store_true", help="with --versions: print the program, too")
    args = parser.parse_args(argv)
    if args.listing and not args.versions:
        parser.error("--listing needs --versions")
    if not args.versions:
        print(table())
        return 0
    program = search(args.versions)
    if args.listing:
        print(program)
    print(program.cost())
    return 0


def table() -> str:
    """Two-input additions, and rotations, shifts and three-input logic, per hash."""
    rows = [("versions", "additions", "logic", "total"), *(_row(n, search(n).cost()) for n in VERSIONS)]
    return "\n".join("".join(f"{cell:>11}" for cell in row) for row in rows)


def _row(versions: int, cost: Cost) -> tuple[str, ...]:
    adds, logic = cost.adds / versions, cost.logic / versions
    return tuple(f"{number:g}" for number in (versions, adds, logic, adds + logic))
