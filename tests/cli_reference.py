"""Writes docs/cli.md from the parser itself: python -m tests.cli_reference > docs/cli.md."""

import argparse
from collections.abc import Iterator

from miner.cli import make_parser


def render() -> str:
    """The whole page. argparse's own layout differs between versions of Python, so this is ours."""
    parser = make_parser()
    lines = ["# The command line", "", "Made from the parser; do not edit.", "", f"{parser.epilog}", ""]
    for name, command in _commands(parser, "miner"):
        lines += [f"## {name}", "", command.description or "", ""]
        lines += [f"* {_signature(action)}: {_help(action)}" for action in _arguments(command)]
        lines += [""]
    return "\n".join(lines).rstrip() + "\n"


def _commands(parser: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, command in action.choices.items():
                yield f"{name} {word}", command
                yield from _commands(command, f"{name} {word}")


def _arguments(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    hidden = (argparse._HelpAction, argparse._SubParsersAction)
    return [action for action in parser._actions if not isinstance(action, hidden)]


def _signature(action: argparse.Action) -> str:
    value = action.metavar or (action.choices and "|".join(action.choices)) or action.dest.upper()
    if not action.option_strings:
        return f"`{value}`"
    takes_value = action.nargs != 0
    return f"`{action.option_strings[-1]}{f' {value}' if takes_value else ''}`"


def _help(action: argparse.Action) -> str:
    return (action.help or "").replace("%(default)s", str(action.default))


if __name__ == "__main__":
    print(render(), end="")
