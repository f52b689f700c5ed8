"""python -m bench: measure and prove, show, compare."""

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from bench import history, readme
from bench.results import Results
from miner import waiting

NOT_VERIFIED = 3
"""Exit status if a device failed its proof."""

DESCRIPTION = """Measure the hash rate of every backend that works here, and prove that the hashing was done.
One hash is one SHA-256d of an 80-byte header. A device that fails its proof gets no rate, and the exit
status is 3."""

EPILOG = """further commands (each has its own --help):
  show FILE         a results file again, as table, page or picture
  compare A B       is B faster, slower, the same? exit status 1 if any backend is SLOWER
  history DIR       all runs in a folder, oldest first
  readme [FILE]     write the README's table from a results file
  sass, cost        instruction counts of the GPU's and the CPU's code
  calibrate         how far comparisons can be trusted on this machine"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit status: 0, 1 failed, 2 usage, 3 not verified, 130 interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if words and words[0] in _COMMANDS:
            return _COMMANDS[words[0]](words[1:])
        return _measure(words)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return waiting.end(130)
    except BrokenPipeError:
        sys.stderr.close()  # or the interpreter complains on its way out
        return 1
    except ValueError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2


def _measure(words: Sequence[str]) -> int:
    arguments = _measure_parser().parse_args(words)
    _check_outputs(arguments)  # now, not after a minute
    from bench.session import session  # numpy and the compilers: only when something is measured

    results = session(arguments)
    _deliver(results, arguments)
    if results.failed:
        return NOT_VERIFIED
    return 0 if results.rows or results.engine else 1


def _measure_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m bench",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--quick", action="store_true", help="about 20 seconds instead of a minute")
    length.add_argument(
        "--stress", type=_minutes, metavar="MINUTES", help="measure for so long: drift, errors, temperature"
    )
    length.add_argument(
        "--end-to-end", action="store_true", help="through the engine: duty cycle, time to stop (30 s each)"
    )
    parser.add_argument(
        "--backend", type=_names, metavar="B[,B...]", help="these alone (default: every one that works here)"
    )
    parser.add_argument(
        "--threads", type=_count, metavar="N", help="of the CPU backends (default: all cores)"
    )
    parser.add_argument(
        "--versions",
        type=_count,
        metavar="N",
        help="sibling headers per scan (default: what suits the backend)",
    )
    parser.add_argument(
        "--sweep", choices=("threads", "versions", "batch"), help="also measure how the rate depends on this"
    )
    parser.add_argument("--seed", type=_seed, help="of headers and ranges (default: a random one, reported)")
    _add_outputs(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results")
    parser.add_argument("--save", type=Path, metavar="DIR", help="write all three, named by date and machine")
    return parser


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--report", type=Path, metavar="FILE", help="write one self-contained HTML page")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write the picture (PNG)")


def _deliver(results: Results, arguments: argparse.Namespace) -> None:
    """Print the results and write what was asked for."""
    from rich.console import Console

    from bench import page, plot, table
    from bench.results import dumps

    table.show(results, Console())
    for kind, path in _outputs(arguments, history.name_of(results)).items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "json":
                path.write_text(dumps(results), encoding="utf-8")
            elif kind == "html":
                page.save(results, path)
            elif results.main_rows and plot.available():
                plot.save(results, path)
            else:
                print(f"no picture: {plot.MISSING if results.main_rows else 'no device has a rate'}")
                continue
        except OSError as error:
            raise ValueError(f"{path} cannot be written: {error.strerror or error}") from None
        print(f"written: {path}")


def _outputs(arguments: argparse.Namespace, name: str) -> dict[str, Path]:
    """Where to write which kind of file."""
    wanted = {"json": getattr(arguments, "json", None), "html": arguments.report, "png": arguments.plot}
    if folder := getattr(arguments, "save", None):
        wanted = {kind: path or folder / f"{name}.{kind}" for kind, path in wanted.items()}
    return {kind: path for kind, path in wanted.items() if path}


def _check_outputs(arguments: argparse.Namespace) -> None:
    """ValueError for a picture that cannot be drawn or a folder that cannot be had."""
    from bench import plot

    if arguments.plot and not plot.available():
        raise ValueError(plot.MISSING)
    for path in _outputs(arguments, "name").values():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"{path.parent} cannot be written: {error.strerror or error}") from None


def _show(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser("python -m bench show", description="Show a results file again.")
    parser.add_argument("file", type=Path)
    _add_outputs(parser)
    arguments = parser.parse_args(words)
    _deliver(history.load(arguments.file), arguments)
    return 0


def _compare(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        "python -m bench compare",
        description="Each backend of two runs: FASTER, SLOWER, SAME or UNSURE, by 95 % intervals. "
        "Exit status 1 if any is SLOWER.",
    )
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--force", action="store_true", help="compare runs of different machines")
    parser.add_argument(
        "--effect", type=_percent, default=0.03, metavar="PERCENT", help="smallest change that counts (3)"
    )
    arguments = parser.parse_args(words)
    from rich.console import Console

    from bench import compare, table

    before, after = history.load(arguments.before), history.load(arguments.after)
    compared = compare.compare(before, after, force=arguments.force, effect=arguments.effect)
    table.show_comparison(compared, Console())
    return 1 if compared.slower else 0


def _history(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser("python -m bench history", description="All runs in a folder.")
    parser.add_argument("folder", type=Path, nargs="?", default=Path("bench/results"))
    arguments = parser.parse_args(words)
    from rich.console import Console

    history.show(history.load_all(arguments.folder), Console())
    return 0


def _readme(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        "python -m bench readme", description="Write the README's table from a results file."
    )
    parser.add_argument("file", type=Path, nargs="?", help="default: the latest in bench/results")
    parser.add_argument("--readme", type=Path, default=Path("README.md"))
    arguments = parser.parse_args(words)
    source = arguments.file or history.newest(Path("bench/results"))
    try:
        changed = readme.update(arguments.readme, history.load(source), source.as_posix())
    except OSError as error:
        raise ValueError(f"{arguments.readme} cannot be rewritten: {error.strerror or error}") from None
    print(f"{arguments.readme}: {'written from' if changed else 'already says what is in'} {source}")
    return 0


def _elsewhere(module: str) -> Callable[[Sequence[str]], int]:
    """The command of a module with a `main` of its own, imported when it is called."""
    return lambda words: int(import_module(f"bench.{module}").main(list(words)))


_COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "show": _show,
    "compare": _compare,
    "history": _history,
    "readme": _readme,
    "sass": _elsewhere("sass"),
    "cost": _elsewhere("cost"),
    "calibrate": _elsewhere("calibrate"),
}


def _number(text: str, least: int, most: int) -> int:
    if not text.isdecimal() or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"{text!r:.40} is not a whole number from {least} to {most}")
    return int(text)


def _count(text: str) -> int:
    return _number(text, 1, 1024)


def _seed(text: str) -> int:
    return _number(text, 0, 2**32 - 1)


def _minutes(text: str) -> int:
    return _number(text, 1, 7 * 24 * 60)


def _percent(text: str) -> float:
    return _number(text, 1, 100) / 100


def _names(text: str) -> list[str]:
    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r:.40} holds an empty name")
    return names


if __name__ == "__main__":
    sys.exit(main())
